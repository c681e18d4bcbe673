"""The published failures of other session libraries: what happened there, and that it cannot happen here."""

from __future__ import annotations

import json
import os
import stat
import typing as t
import zlib
from base64 import urlsafe_b64encode
from datetime import timedelta
from pathlib import Path

import pytest
from attacks import IDENTITY, PROTECTIONS, Plant, ended, identity, peek, read_all, send, steps, target, tutorial
from flask import Response
from http_support import KEPT, SET, Browser, fate, make_app, started
from views import clear, purge, renew

from flask_sessionstore import ConfigurationError, Record, SessionKey, session
from flask_sessionstore.stores import ServerSideStore, SessionStore, from_url
from flask_sessionstore.stores.caching import CachingStore
from flask_sessionstore.stores.cookie import CookieStore
from flask_sessionstore.stores.filesystem import FileSystemStore
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import Clock

each = pytest.mark.parametrize


def be_permanent() -> None:
    session.permanent = True


def permanent_user(app: t.Any) -> Browser:
    browser = Browser(app)
    browser.does(steps(lambda: session.update(_user_id="ann"), be_permanent))
    return browser


# -- Flask ---------------------------------------------------------------------------------------------------------


def test_flask_cve_2023_30861_a_refreshed_cookie_is_for_one_browser(store: SessionStore, clock: Clock) -> None:
    """Flask refreshed a permanent session's cookie without ``Vary: Cookie`` where a view had not touched the session.

    A cache before it kept that response, and handed one visitor's cookie to others. Every response that carries a
    cookie must vary by it and be private, and none that a view made public may be refreshed at all.
    """
    user = permanent_user(target(store, clock))
    clock.advance(3600)
    response = user.does()
    assert fate(response) == SET
    assert "Cookie" in response.vary
    assert response.cache_control.private
    clock.advance(3600)
    public = user.does(lambda: Response(headers={"Cache-Control": "public, max-age=60"}))
    assert fate(public) == KEPT


@each("protection", PROTECTIONS)
def test_flask_cve_2025_47278_the_current_secret_makes_the_cookies(
    protection: str, store: SessionStore, clock: Clock
) -> None:
    """Flask handed its list of secrets to the signer in the wrong order: the oldest one signed, the newest never.

    So a retired secret went on to make cookies that were believed. A cookie that is made during a rotation must be
    one of the new secret, and nothing to the old one.
    """
    config: dict[str, t.Any] = {"SESSION_COOKIE_CONTENT_SECURITY": protection}
    old, new = (target(store, clock, SECRET_KEY=secret, **config) for secret in ("old", "new"))
    rolling = target(store, clock, SECRET_KEY="new", SECRET_KEY_FALLBACKS=["old", "older"], **config)
    before = started(old, _user_id="ann")
    during = Browser(rolling, *before.cookies)
    assert identity(during)
    during.does(lambda: session.update(n=1))
    assert identity(Browser(new, *during.cookies))
    assert not identity(Browser(old, *during.cookies))


@each(
    "touch",
    [
        lambda: "key" in session,
        lambda: len(session),
        lambda: bool(session),
        lambda: list(session),
        lambda: list(reversed(session)),
        lambda: sorted(session.keys()),
        lambda: list(session.values()),
        lambda: dict(session.items()),
        lambda: session == {},
        lambda: session.get("key"),
        read_all,
        lambda: session.handle,
        lambda: session.get_as("key", int),
        lambda: dict(session.entries()),
        lambda: session | {},
    ],
)
def test_flask_cve_2026_27205_every_way_of_looking_varies_the_response(touch: t.Callable[[], object]) -> None:
    """Flask noticed no access by ``in`` and ``len``: what was shown to the signed in was kept for everybody.

    Whatever asks the session anything must make the response vary by the cookie.
    """
    app = make_app("memory:")
    for browser in (Browser(app), started(app, key=1)):
        assert "Cookie" in browser.does(steps(touch)).vary


# -- Django --------------------------------------------------------------------------------------------------------


def test_django_cve_2011_0698_no_key_is_a_path(tmp_path: Path) -> None:
    """On Windows, a slash in the session key of the cookie led Django's file store out of its folder.

    A key is 43 characters of base64url or none; and the file's name is made of its hash.
    """
    store = FileSystemStore(tmp_path / "sessions")
    app = target(store)
    user = started(app, n=1)
    (tmp_path / "planted").write_bytes(b"\x01")
    for text in ("../planted", "..\\planted", "/planted", f"{tmp_path}/planted", "a/../../planted", "C:planted"):
        assert peek(app, f"session={text}") == {}
        with pytest.raises(ValueError, match="not a session key"):
            SessionKey(text)
    files = [path for path in (tmp_path / "sessions").rglob("*") if path.is_file() and path.name != ".gitignore"]
    (path,) = [path for path in files if ".locks" not in path.parts]
    handle = user.asks(lambda: session.handle)
    assert path.name == f"session%3A{handle}"


def test_django_cve_2015_3982_no_session_has_an_empty_key() -> None:
    """After a log-out, Django's cached database kept the session key as an empty text, and so did the next visitors'.

    Who sent an empty cookie was whoever had been there last. A session that ended has no key; an empty one is none.
    """
    store = CachingStore(MemoryStore(), MemoryStore())
    app = target(store)
    with pytest.raises(ValueError, match="not a session key"):
        SessionKey("")
    for log_out in (clear, purge):
        user = started(app, _user_id="ann")
        user.does(log_out)
        assert user.cookies == []
        for header in ("session=", "session", 'session=""', "session= ", "session=; session="):
            assert peek(app, header) == {}
        someone = started(app, _user_id="eve")
        assert someone.key
        assert identity(user) == {}


def records(store: t.Any) -> int:
    """How many names a store keeps."""
    return len(list(store.scan()))


def test_django_cve_2015_5143_made_up_keys_fill_no_store(clock: Clock) -> None:
    """Django kept an empty record for every session key that a request made up: anybody could fill the store.

    Requests whose key is not known, reads among them, keep nothing.
    """
    store = MemoryStore()
    app = target(store, clock)
    signed = started(make_app(MemoryStore(), SECRET_KEY=app.secret_key), n=1)
    texts = [*signed.cookies, *(str(SessionKey.generate()) for _ in range(20)), "a", ""]
    for text in texts:
        for action in (lambda: session.get("n"), read_all, lambda: setattr(session, "permanent", True)):
            send(app, f"session={text}", action)
    assert records(store) == 0


LOG_OUTS = [
    clear,
    purge,
    lambda: session.pop("_user_id", None),
    renew,
]


@each("log_out", LOG_OUTS)
def test_django_cve_2015_5963_a_log_out_without_a_log_in_keeps_nothing(
    log_out: t.Callable[[], object], clock: Clock
) -> None:
    """Django's log-out made a new, empty record each time it was called, by anybody: the store could be filled.

    Ending what is not there leaves nothing behind, and sends no cookie.
    """
    store = MemoryStore()
    app = target(store, clock)
    for _ in range(3):
        assert fate(Browser(app).does(steps(log_out))) == KEPT
    assert records(store) == 0


def test_django_cve_2015_5964_an_end_leaves_no_empty_record(clock: Clock) -> None:
    """Django's ``flush`` itself made an empty record, in the database behind the cache too.

    What ended leaves a tombstone for a minute, however often it is ended again; then nothing.
    """
    cache, backend = MemoryStore(), MemoryStore()
    cache.clock = backend.clock = clock
    app = target(CachingStore(cache, backend), clock)
    for log_out in LOG_OUTS[:2]:
        user = started(app, _user_id="ann")
        again = user.twin()
        user.does(steps(log_out))
        for _ in range(5):
            again.twin().does(steps(log_out))
        assert records(backend) == 1
        clock.advance(61)
        again.twin().does(steps(log_out))
        backend.delete_expired()
        cache.delete_expired()
        assert (records(backend), records(cache)) == (0, 0)


# -- Rack ----------------------------------------------------------------------------------------------------------


def test_rack_cve_2019_16782_a_store_looks_up_a_hash() -> None:
    """Rack's stores looked up the session key itself: the time that an index took told how much of a guess was right.

    What the engine compares is a SHA-256 of the key, so that near guesses have nothing in common.
    """
    store = MemoryStore()
    user = started(target(store), n=1)
    key = t.cast("str", user.key)
    (entry,) = store.scan()
    assert entry.handle == SessionKey(key).handle
    assert key not in entry.handle
    near = SessionKey("A" + key[1:] if key[0] != "A" else "B" + key[1:])
    assert near.handle[:16] != entry.handle[:16]
    assert key.encode() not in t.cast("bytes", entry.data)


def test_rack_cve_2025_46336_a_long_request_does_not_restore_what_was_logged_out(
    server_store: ServerSideStore, clock: Clock
) -> None:
    """Rack's pool wrote the whole session back at the end of each request, even if it had been deleted meanwhile.

    A thief with a slow request under way kept the session beyond the log-out. No write makes a record under a key that
    has none, or that ended.
    """
    app = target(server_store, clock)
    for log_out in LOG_OUTS[:3]:
        user = started(app, _user_id="ann")
        thief, later = user.twin(), user.twin()

        def slow(log_out: t.Callable[[], object] = log_out, user: Browser = user) -> None:
            assert session["_user_id"] == "ann"
            user.does(steps(log_out))
            clock.advance(61)
            session["mine"] = True
            session.modified = True

        thief.does(slow)
        assert not identity(thief)
        assert not identity(later)


@each("protection", PROTECTIONS)
@each("url", ["memory:", "cookie:"])
def test_rack_cve_2026_39324_what_no_secret_made_is_read_by_no_other_way(url: str, protection: str) -> None:
    """Where decryption failed, Rack went on to decode the cookie as if it had never been encrypted.

    So anybody could write any session. There is one decoder, and it is the one that was set: a cookie of the other
    protection is no cookie.
    """
    app = target(from_url(url), SESSION_COOKIE_CONTENT_SECURITY=protection)
    state = {"_user_id": "ann", "admin": True}
    data = json.dumps(state).encode()
    for text in (
        data.decode(),
        urlsafe_b64encode(data).decode(),
        urlsafe_b64encode(data).decode().rstrip("="),
        urlsafe_b64encode(zlib.compress(data)).decode().rstrip("="),
    ):
        assert peek(app, f"session={text}") == {}
    for other in {"signed", "private"} - {protection}:
        if other in PROTECTIONS:
            store = app.session_interface.store  # type: ignore[attr-defined]
            elsewhere = started(target(store, SESSION_COOKIE_CONTENT_SECURITY=other), **state)
            assert identity(elsewhere)
            assert peek(app, f"session={elsewhere.cookie}") == {}


# -- aiohttp-session -----------------------------------------------------------------------------------------------


def test_aiohttp_session_cve_2018_1000519_an_invalidated_key_is_no_key(
    server_store: ServerSideStore, clock: Clock
) -> None:
    """aiohttp-session kept an empty record where a session was invalidated, and took it for a session ever after.

    An attacker planted the key of a session that was over, waited for a log-in, and shared it. What ended has no
    record, and a log-in makes a key of its own.
    """
    app = target(server_store, clock)
    plant: Plant = ended(app, clock)
    victim = Browser(app, plant.cookie)
    victim.does(tutorial, body="user=7")
    assert identity(victim)
    assert not identity(Browser(app, plant.cookie))
    clock.advance(60)
    assert server_store.info(t.cast("str", plant.handle)) is None


@each("protection", PROTECTIONS)
def test_aiohttp_session_cve_2018_1000814_a_cookie_put_back_after_its_end_is_dead(
    protection: str, clock: Clock
) -> None:
    """Only the browser knew when aiohttp-session's encrypted cookies ended; put back by hand, they lived for ever.

    The end stands in what is protected, and is checked here.
    """
    app = target(CookieStore(), clock, PERMANENT_SESSION_LIFETIME=3600, SESSION_COOKIE_CONTENT_SECURITY=protection)
    user = permanent_user(app)
    clock.advance(3599)
    assert identity(user.twin())
    clock.advance(1)
    put_back = user.twin()
    assert not identity(put_back)
    assert fate(put_back.does(lambda: session.update(n=1))) == SET
    assert not identity(put_back)


# -- others --------------------------------------------------------------------------------------------------------


def test_fiber_cve_2024_38513_no_key_of_the_client_s_choice(server_store: ServerSideStore) -> None:
    """Fiber started a session under whatever key the client sent, so an attacker could choose it in advance.

    A key is made here, of 256 random bits, and nowhere else.
    """
    app = target(server_store)
    chosen = str(SessionKey.generate())
    signed = t.cast("str", started(make_app(MemoryStore(), SECRET_KEY=app.secret_key), n=1).cookie)
    for text in ("chosen", chosen, f"{chosen}.{'A' * 22}.{'A' * 43}", signed):
        victim = Browser(app, text)
        victim.does(lambda: session.update(_user_id="ann"))
        assert identity(victim)
        assert victim.cookie is not None
        assert text not in victim.cookie
        assert not set(IDENTITY) & set(peek(app, f"session={victim.cookie}")) - {"_user_id"}
    for key in (chosen, signed.partition(".")[0]):
        assert server_store.info(SessionKey(key).handle) is None


def test_litestar_cve_2026_25480_two_names_are_never_one_file(tmp_path: Path) -> None:
    """Litestar's file store spelled keys as file names so that different ones became the same: ``k-`` and ``k45``,
    the Kelvin sign and ``K``. One visitor was served what belonged to another.

    File names here are a quoted prefix and a hash in hexadecimal: what differs stays different.
    """
    prefixes = ["k-", "k45", "K", "\u212a", "ﬁ", "fi", "a/b", "a%2Fb", "a%252Fb", "ä", "a\u0308", "", ".", "a:", "a%3A"]
    stores = [FileSystemStore(tmp_path / "sessions", prefix=prefix) for prefix in prefixes]
    handle = SessionKey.generate().handle
    for number, store in enumerate(stores):
        data = b"\xff%d" % number
        assert store.add(handle, data, timedelta(hours=1))
    assert [store.read(handle) for store in stores] == [b"\xff%d" % number for number in range(len(stores))]
    other = SessionKey.generate().handle
    assert all(store.read(other) is None for store in stores)


def test_beego_cve_2019_16354_no_other_user_of_the_machine_reads_a_session(tmp_path: Path) -> None:
    """Beego made its session files first and restricted them after, in a folder that all could enter.

    Files are made with 0600, in folders made with 0700, whatever the umask; a folder where others may write is
    refused.
    """
    before = os.umask(0)
    try:
        user = started(target(FileSystemStore(tmp_path / "sessions")), _user_id="ann")
        user.does(lambda: session.update(n=1))
        modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [tmp_path / "sessions", *tmp_path.rglob("*")]}
    finally:
        os.umask(before)
    assert {mode for path, mode in modes.items() if path.is_dir() and path != tmp_path} == {0o700}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}
    (tmp_path / "sessions").chmod(0o777)
    with pytest.raises(ConfigurationError, match=f"session folder {tmp_path}/sessions can be written by other users"):
        FileSystemStore(tmp_path / "sessions").save(Record(state={"n": b"\x01"}), timedelta(hours=1))


def test_fastify_session_cve_2024_35220_reading_a_session_does_not_put_off_its_end(clock: Clock) -> None:
    """@fastify/session computed the end anew from ``maxAge`` whenever it read a session: none was ever found expired.

    The end that is stored is the one that counts. Past it the session is not there, and its record is swept.
    """
    store = MemoryStore()
    app = target(store, clock, PERMANENT_SESSION_LIFETIME=3600, SESSION_REFRESH_EACH_REQUEST=False)
    user = permanent_user(app)
    for _ in range(3):
        clock.advance(1199)
        assert identity(user.twin())
    clock.advance(4)
    assert identity(user.twin()) == {}
    clock.advance(60)
    assert store.delete_expired() == 1
