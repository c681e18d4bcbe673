"""A stolen copy of the store: who has it can use no session; where records are sealed, they can read none either."""

from __future__ import annotations

import re
import typing as t

import pytest
from attacks import PROTECTIONS, identity, peek, read_all, steps, target
from derived_keys import signer
from flask import Flask
from http_support import Browser, started
from views import purge, renew

from flask_sessionstore import SessionError, SessionKey, SessionManager, session
from flask_sessionstore.layout import HEADER_SIZE, TIMES
from flask_sessionstore.signing import SIGNED
from flask_sessionstore.stores import Scans, ServerSideStore, from_url
from flask_sessionstore.stores.caching import CachingStore
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import Clock
from flask_sessionstore.tokens import Token

SECRET = "stolen too"
VALUE, NAME = "marker-value", "marker-name"
KEY_LIKE = re.compile(rb"(?=([A-Za-z0-9_-]{43}))")


def dump(store: ServerSideStore) -> bytes:
    """All that a store keeps, with the names under which it is kept."""
    tiers = [store.cache, store.store] if isinstance(store, CachingStore) else [store]
    return b"\n".join(
        entry.handle.encode() + b"=" + (entry.data or b"")
        for tier in tiers
        if (scans := tier.ability(Scans)) is not None
        for entry in scans.scan()
    )


def signed_in(app: Flask) -> Browser:
    """A browser whose session has been through a few writes and a new key."""
    user = started(app, _user_id="ann", **{NAME: VALUE})
    user.does(lambda: session.update(more=[VALUE]))
    user.does(renew)
    user.does(lambda: session["more"].append(VALUE))
    return user


def test_no_cookie_can_be_made_from_it_even_with_the_secret(server_store: ServerSideStore, clock: Clock) -> None:
    """What stands in the store names sessions; what opens them is known to browsers alone."""
    if server_store.ability(Scans) is None:
        pytest.skip("this store cannot be dumped")
    app = target(server_store, clock, SECRET_KEY=SECRET)
    user = signed_in(app)
    stolen = dump(server_store)
    handle = user.asks(lambda: session.handle)
    assert handle.encode() in stolen
    tokens = SIGNED.tokens((SECRET,), "session", "/")
    raw = signer(SECRET)
    assert (user.key or "").encode() not in stolen
    for match in set(KEY_LIKE.findall(stolen)):
        try:
            key = SessionKey(match.decode())
        except ValueError:
            continue
        token = Token(key=key, issued=int(clock()), lifetime=0, permanent=False, seen=bytes(4), mark=0)
        assert not identity(Browser(app, tokens.dumps(token)))
    rest = t.cast("str", user.cookie).split(".")[1]
    for text in (handle, handle[:43], bytes.fromhex(handle).hex(), ""):
        assert not identity(Browser(app, raw.sign(f"{text}.{rest}").decode()))


@pytest.mark.parametrize("protection", PROTECTIONS)
def test_with_the_secret_alone_nobody_is_somebody_else(protection: str, clock: Clock) -> None:
    """But where the cookie is the session, who has the secret writes what they like; its documentation says so."""
    config: dict[str, t.Any] = {"SECRET_KEY": SECRET, "SESSION_COOKIE_CONTENT_SECURITY": protection}
    for url in ("memory:", "cookie:"):
        thiefs, ours = (target(from_url(url), clock, **config) for _ in range(2))
        made = started(thiefs, _user_id="ann")
        assert bool(identity(Browser(ours, *made.cookies))) is (url == "cookie:")


# -- sealed --------------------------------------------------------------------------------------------------------


@pytest.fixture(params=[True, "required"])
def sealed_app(request: pytest.FixtureRequest, clock: Clock) -> Flask:
    return target(CachingStore(MemoryStore(), MemoryStore()), clock, SECRET_KEY=SECRET, SESSION_SEAL=request.param)


def store_of(app: Flask) -> t.Any:
    return app.session_interface.store  # type: ignore[attr-defined]


def test_sealed_it_holds_no_value_and_no_name_of_one(sealed_app: Flask) -> None:
    user = signed_in(sealed_app)
    stolen = dump(store_of(sealed_app))
    assert user.data[NAME] == VALUE
    assert VALUE.encode() not in stolen
    assert NAME.encode() not in stolen
    assert stolen.count(b"ann") >= 1  # whose it is lies open: that is how an owner's sessions are found


def test_sealed_it_opens_for_nobody_who_lacks_the_cookie(sealed_app: Flask) -> None:
    user = signed_in(sealed_app)
    handle = user.asks(lambda: session.handle)
    store, sessions = store_of(sealed_app), t.cast("SessionManager", sealed_app.extensions["sessionstore"])
    for key in (SessionKey.of(handle), SessionKey.generate()):
        key._handle = handle
        with pytest.raises(SessionError):
            store.load(key)
    with sealed_app.app_context(), pytest.raises(SessionError), sessions.open(handle) as opened:
        dict(opened)
    assert identity(user)


def test_a_session_written_into_the_store_is_none(clock: Clock) -> None:
    """A neighbour who can write gives the sessions of others no data of theirs, where seals are required."""
    neighbour, app = MemoryStore(), target(MemoryStore(), clock, SECRET_KEY=SECRET, SESSION_SEAL="required")
    user = signed_in(app)
    eve = started(target(neighbour, clock, SECRET_KEY=SECRET), _user_id="admin", admin=True)
    forged = neighbour.read(eve.asks(lambda: session.handle))
    handle, store = user.asks(lambda: session.handle), store_of(app)
    store._put(handle, forged)
    assert peek(app, f"session={user.cookie}") == {}
    store._put(eve.asks(lambda: session.handle), forged)
    assert peek(app, f"session={eve.cookie}") == {}


def test_sealed_sessions_cannot_be_exchanged(sealed_app: Flask) -> None:
    """Nor can one user's session be put in the place of another's."""
    ann, eve = signed_in(sealed_app), started(sealed_app, _user_id="eve")
    store = store_of(sealed_app)
    for victim, other in ((ann, eve), (eve, ann)):
        taken = store.store.read(other.asks(lambda: session.handle))
        handle = victim.asks(lambda: session.handle)
        before = store.store.read(handle)
        for tier in (store.cache, store.store):
            tier._put(handle, taken)
        assert peek(sealed_app, f"session={victim.cookie}") == {}
        for tier in (store.cache, store.store):
            tier._put(handle, before)
    assert identity(ann) == {"_user_id": "ann"}


def test_no_byte_of_a_sealed_session_can_be_changed_but_of_its_two_times(clock: Clock) -> None:
    store = MemoryStore()
    app = target(store, clock, SECRET_KEY=SECRET, SESSION_SEAL="required")
    user = signed_in(app)
    handle = user.asks(lambda: session.handle)
    good = t.cast("bytes", store.read(handle))
    believed = set()
    for position in range(len(good)):
        changed = bytearray(good)
        changed[position] ^= 1
        store._put(handle, bytes(changed))
        response = user.twin().does(read_all)
        assert response.status_code == 200
        if identity(user.twin()):
            believed.add(position)
    assert believed <= set(range(TIMES.start, TIMES.stop))
    assert len(good) > HEADER_SIZE
    store._put(handle, good)
    assert identity(user)


def test_what_ended_leaves_nothing_to_steal(sealed_app: Flask, clock: Clock) -> None:
    user = signed_in(sealed_app)
    user.does(steps(purge))
    stolen = dump(store_of(sealed_app))
    assert b"ann" not in stolen
    assert VALUE.encode() not in stolen
