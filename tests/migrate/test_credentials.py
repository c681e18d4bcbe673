"""What a browser presents: which texts are credentials, and what is derived from them."""

from __future__ import annotations

import secrets
import typing as t
import uuid
from datetime import timedelta

import pytest
from engines import NOW, look, make_app
from flask import Flask, session
from flask.sessions import SecureCookieSessionInterface
from itsdangerous import Signer
from writers import SECRET_KEY

from flask_sessionstore import Record, SessionCorrupt, SessionKey, SessionManager
from flask_sessionstore.derived import owner_mark
from flask_sessionstore.key import is_handle
from flask_sessionstore.migrate import Credential, Importer, from_flask, from_flask_session, from_store
from flask_sessionstore.migrate.importing import candidates
from flask_sessionstore.migrate.other_store import credential_of
from flask_sessionstore.stores import list_name
from flask_sessionstore.stores.memory import MemoryStore

UUID4 = "73291337-8d7c-45ef-b2f6-6b12bf0151fb"


@pytest.fixture
def app() -> Flask:
    return make_app()


def files(tmp_path: t.Any = "nowhere", **options: t.Any) -> Importer:
    return from_flask_session(tmp_path, **options)


def flask_cookie(app: Flask, **data: t.Any) -> str:
    """As Flask would send it."""
    serializer = SecureCookieSessionInterface().get_signing_serializer(app)
    assert serializer is not None
    return serializer.dumps(data)


# -- Flask-Session's ids -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sid", [str(uuid.uuid4()), secrets.token_urlsafe(32)], ids=["uuid4", "token"])
def test_an_id_is_a_credential(sid: str, app: Flask) -> None:
    credential = files().recognise(app, sid)
    assert credential is not None
    assert credential.text == sid


@pytest.mark.parametrize("id_length", [16, 24, 33, 48, 64])
def test_other_lengths_of_ids_are_known_when_they_are_told(id_length: int, app: Flask) -> None:
    sid, older = secrets.token_urlsafe(id_length), str(uuid.uuid4())
    assert files().recognise(app, sid) is None
    for known in (sid, older):
        credential = files(id_length=id_length).recognise(app, known)
        assert credential is not None
        assert credential.text == known


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A" * 42,
        "A" * 44,
        "A" * 42 + "\n",
        "A" * 42 + "*",
        "A" * 40 + "/..",
        "../" + "A" * 40,
        "owners:" + "a" * 36,
        "Ａ" * 43,
        UUID4.upper(),
        UUID4 + "\n",
        UUID4.replace("-4", "-1"),
        UUID4.replace("-", ""),
        "A" * 43 + "." + "B" * 27,
        "owners:" + list_name("ann"),
    ],
)
def test_what_is_no_id_never_becomes_a_name(text: str, app: Flask) -> None:
    assert files().recognise(app, text) is None
    assert files(id_length=48).recognise(app, text) is None


def test_a_handle_is_never_taken_for_an_id_though_ids_may_be_as_long(app: Flask) -> None:
    handle = SessionKey.generate().handle
    assert len(handle) == len(secrets.token_urlsafe(48))
    assert files(id_length=48).recognise(app, handle) is None
    assert files(id_length=48, signed=True).recognise(app, signed(handle)) is None


def signed(sid: str, secret: str = SECRET_KEY) -> str:
    return Signer(secret, salt="flask-session", key_derivation="hmac").sign(sid).decode()


def test_a_signed_id_is_the_same_credential_under_every_secret(app: Flask) -> None:
    sid = secrets.token_urlsafe(32)
    app.config["SECRET_KEY_FALLBACKS"] = ["former", "the one before"]
    importer = files(signed=True)
    found = {importer.recognise(app, signed(sid, secret)) for secret in (SECRET_KEY, "former", "the one before")}
    assert found == {Credential.of(sid)}


def test_an_id_with_a_bad_signature_or_none_is_no_credential_where_they_were_signed(app: Flask) -> None:
    sid = secrets.token_urlsafe(32)
    good = signed(sid)
    other = "B" if good[-5] != "B" else "C"
    for bad in (sid, signed(sid, "another"), good[:-5] + other + good[-4:], sid + ".", "ü" + good, good + "ü"):
        assert files(signed=True).recognise(app, bad) is None
    assert files(signed=False).recognise(app, good) is None


def test_without_a_secret_nothing_signed_is_a_credential() -> None:
    app = Flask(__name__)
    assert files(signed=True).recognise(app, signed("A" * 43)) is None
    assert from_flask().recognise(app, flask_cookie(make_app(), a=1)) is None
    assert from_store(MemoryStore()).recognise(app, "x") is None


# -- Flask's own cookie --------------------------------------------------------------------------------------------


def data_of(importer: Importer, cookie: str, app: Flask, now: float) -> t.Any:
    old = look(t.cast("t.Any", importer), cookie, now, app)
    return None if old is None else (sorted(old.record.state), old.record.permanent)


def test_flasks_cookie_goes_on_with_its_types_for_as_long_as_flask_believes_it(app: Flask) -> None:
    app.config["PERMANENT_SESSION_LIFETIME"] = 3600
    cookie = flask_cookie(app, _permanent=True, _user_id="7", id=uuid.UUID(int=5), pair=(1, 2))
    importer = from_flask()
    old = look(t.cast("t.Any", importer), cookie, NOW, app)
    assert old is not None
    assert old.ends_at is not None
    assert old.kept_as == "cookie"
    assert data_of(importer, cookie, app, old.ends_at) == (["_user_id", "id", "pair"], True)
    assert data_of(importer, cookie, app, old.ends_at + 1) is None
    assert importer.recognise(app, cookie) is not None  # else a mark for it could not be found


def test_flasks_large_cookies_are_read_too(app: Flask) -> None:
    cookie = flask_cookie(app, text="x" * 3000)
    assert cookie.startswith(".")
    assert data_of(from_flask(), cookie, app, NOW) == (["text"], False)


def test_a_signed_cookie_that_holds_no_mapping_is_damage(app: Flask) -> None:
    serializer = SecureCookieSessionInterface().get_signing_serializer(app)
    assert serializer is not None
    with pytest.raises(SessionCorrupt, match="it is not a mapping"):
        look(t.cast("t.Any", from_flask()), str(serializer.dumps([1])))


def test_a_cookie_whose_secret_was_dropped_since_is_none_of_flasks(app: Flask) -> None:
    credential = from_flask().recognise(app, flask_cookie(app, a=1))
    assert credential is not None
    for secret in ("another", None):
        app.secret_key = secret
        assert from_flask().find(app, credential, NOW) is None


def test_flasks_cookie_under_a_fallback_secret_is_the_same_credential(app: Flask) -> None:
    cookie = flask_cookie(app, a=1)
    later = Flask(__name__)
    later.config.update(SECRET_KEY="new", SECRET_KEY_FALLBACKS=[SECRET_KEY])
    assert from_flask().recognise(app, cookie) == from_flask().recognise(later, cookie) != None  # noqa: E711
    later.config["SECRET_KEY_FALLBACKS"] = []
    assert from_flask().recognise(later, cookie) is None


def test_a_cookie_of_flasks_in_another_spelling_is_no_second_credential(app: Flask) -> None:
    """Base64's decoder takes them for the same signature, and a log-out would not hold against them."""
    cookie = flask_cookie(app, _user_id="7")
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spellings = [cookie[:-1] + letter for letter in letters] + [
        cookie + "=",
        cookie + "!",
        cookie[:-3] + "\n" + cookie[-3:],
    ]
    serializer = SecureCookieSessionInterface().get_signing_serializer(app)
    assert serializer is not None
    believed = [text for text in spellings if text != cookie and serializer.loads_unsafe(text)[0]]
    assert believed
    assert [text for text in spellings if from_flask().recognise(app, text) is not None] == [cookie]


def test_a_cookie_of_another_application_is_none_of_flasks(app: Flask) -> None:
    assert from_flask().recognise(app, flask_cookie(app, a=1) + "x") is None
    other = Flask(__name__)
    other.secret_key = "another"
    assert from_flask().recognise(app, flask_cookie(other, a=1)) is None


# -- another store of ours -----------------------------------------------------------------------------------------


def test_another_store_knows_our_cookie_and_the_session_keeps_its_key_and_all_it_has() -> None:
    app, old, new = make_app(), MemoryStore(), MemoryStore()
    SessionManager(app, store=old)

    @app.get("/")
    def log_in() -> str:
        session["_user_id"] = "7"
        session.permanent = True
        return "ok"

    browser = app.test_client()
    browser.get("/")
    cookie = t.cast("t.Any", browser.get_cookie("session")).value
    moved = make_app()
    SessionManager(moved, store=new)
    importer = from_store(old)
    with moved.test_request_context():
        credential = importer.recognise(moved, cookie)
        assert credential is not None
        assert importer.recognise(moved, cookie[:-2]) is None
    record = t.cast("Record", old.load(credential.key))
    found = importer.find(moved, credential, old.now())
    assert found is not None
    assert (found.record, found.ends_at, found.kept_as) == (record, record.expires_ms / 1000, "record")
    assert record.owner == "7"
    importer.remove(credential)
    assert importer.find(moved, credential, old.now()) is None


def test_what_ended_in_another_store_is_not_imported_from_it(app: Flask) -> None:
    store = MemoryStore()
    key = store.save(Record(state={}), timedelta(hours=1))
    store.delete(key)
    assert from_store(store).find(app, credential_of(key), store.now()) is None


# -- what is derived -----------------------------------------------------------------------------------------------


def test_the_same_credential_comes_to_the_same_key_in_every_process() -> None:
    """These may never change: who imported before an upgrade would be imported again after it."""
    credential = Credential.of("A" * 43)
    assert str(credential.key) == "sM7SB5nKOUOwwqVvvjIphnyfdkMEZI-0HcfYsVOlcME"
    assert credential.mark == "2bb417078e1f96c0f2a1df2560ea36a680c23610062ba4c109aa13dd2ad025c0"
    assert owner_mark("ann") == "80f302357e07c75ed99dd79d8f7e9f8c7510ac5d67b9063b62d25034847614a8"


def test_key_marks_and_owners_have_nothing_to_do_with_each_other() -> None:
    one, other = Credential.of("ann"), Credential.of("bob")
    names = {one.key.handle, one.mark, other.key.handle, other.mark, owner_mark("ann"), owner_mark("bob")}
    assert len(names) == 6
    assert all(map(is_handle, names))


def test_a_credential_is_not_shown() -> None:
    text = secrets.token_urlsafe(32)
    credential = Credential.of(text)
    assert text not in repr(credential)
    assert str(credential.key) not in repr(credential)


def test_importers_are_asked_in_their_order_each_for_its_own_cookie(app: Flask) -> None:
    sid, old, cookie = secrets.token_urlsafe(32), str(uuid.uuid4()), flask_cookie(app, a=1)
    importers = [from_flask(cookie="before"), files(), files(cookie="before")]
    cookies = {None: [sid, "junk", cookie], "before": [cookie, old]}
    found = list(candidates(importers, app, lambda name: cookies[name]))
    assert found == [
        (app, importers[0], Credential.of(cookie)),
        (app, importers[1], Credential.of(sid)),
        (app, importers[2], Credential.of(old)),
    ]
