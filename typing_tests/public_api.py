"""What type checkers are to know of the public API. Nobody runs this: mypy and pyright, both strict, must accept it."""

from __future__ import annotations

import dataclasses
import typing as t
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

import flask
from blinker import NamedSignal
from flask.sessions import SessionMixin

from flask_sessionstore import (
    ConfigurationError,
    Record,
    Session,
    SessionConflict,
    SessionCorrupt,
    SessionError,
    SessionGetError,
    SessionGone,
    SessionInfo,
    SessionInsertError,
    SessionKey,
    SessionManager,
    SessionStatus,
    SessionStore,
    SessionTooLarge,
    StoreError,
    StoreSessionInterface,
    StoreUnavailable,
    UnsupportedByStore,
    __version__,
    session,
)
from flask_sessionstore.migrate import Credential, Importer, Listing, Old, from_flask, from_flask_session, to_record
from flask_sessionstore.migrate.flask_session import Session as OneImport
from flask_sessionstore.signals import session_created, session_renewed, store_failed
from flask_sessionstore.stores import ServerSideStore, Sweeps, from_url
from flask_sessionstore.stores.cookie import CookieStore
from flask_sessionstore.stores.filesystem import FileSystemStore
from flask_sessionstore.stores.memory import MemoryStore


@dataclasses.dataclass
class Cart:
    articles: list[str]


class User(t.TypedDict):
    name: str


def reads() -> None:
    t.assert_type(session, Session)
    flasks: SessionMixin = session
    mapping: t.MutableMapping[str, t.Any] = session
    t.assert_type(session["n"], t.Any)
    t.assert_type("n" in session, bool)
    t.assert_type(len(session), int)
    t.assert_type(iter(session), Iterator[str])
    t.assert_type(session.entries(), Mapping[str, t.Any])
    t.assert_type(session.copy(), dict[str, t.Any])
    t.assert_type(session | {"a": 1}, dict[str, t.Any])
    t.assert_type({"a": 1} | session, dict[str, t.Any])
    del flasks, mapping


def typed_reads() -> None:
    t.assert_type(session.get_as("n", int), int | None)
    t.assert_type(session.get_as("n", int, 0), int)
    t.assert_type(session.get_as("n", int, "none"), int | str)
    t.assert_type(session.get_as("ns", list[int]), list[int] | None)
    t.assert_type(session.get_as("ns", list[int], [1]), list[int])
    t.assert_type(session.get_as("cart", Cart), Cart | None)
    t.assert_type(session.remove_as("user", User), User | None)
    t.assert_type(session.remove_as("pair", tuple[int, str]), tuple[int, str] | None)
    t.assert_type(session.get_as("u", int | None), int | None)
    t.assert_type(session.get_as("u", int | str), int | str | None)
    t.assert_type(session.get_as("u", int | None, "none"), int | str | None)
    t.assert_type(session.get_as("u", t.Annotated[int, "a number"], 0), int)
    t.assert_type(session.remove_as("u", list[int] | None), list[int] | None)


def writes() -> None:
    session["cart"] = ["tea"]
    session.insert("cart", ["tea"])
    t.assert_type(session.update_or("n", 1, lambda n: n + 1), t.Any)
    session.update_or("cart", {"articles": ["tea"]}, add_tea, type=Cart)
    session.remove("cart")
    session.clear()
    session.purge()
    session.renew()
    session.save()
    session.reload()


def add_tea(cart: Cart) -> Cart:
    return Cart([*cart.articles, "tea"])


def metadata() -> None:
    t.assert_type(session.status, SessionStatus)
    t.assert_type(session.status is SessionStatus.PURGED, bool)
    t.assert_type(session.new, bool)
    t.assert_type(session.modified, bool)
    t.assert_type(session.accessed, bool)
    t.assert_type(session.permanent, bool)
    t.assert_type(session.handle, str | None)
    t.assert_type(session.created_at, datetime | None)
    t.assert_type(session.expires_at, datetime | None)
    t.assert_type(session.lifetime, timedelta | None)
    t.assert_type(session.deadline, datetime | None)
    session.permanent = session.modified = True
    session.lifetime = timedelta(days=90)
    session.deadline = datetime(2030, 1, 1, tzinfo=UTC)
    session.lifetime = session.deadline = None


def free_standing() -> Session:
    return Session({"n": 1}) or Session()


def manager(app: flask.Flask, store: SessionStore) -> None:
    sessions = SessionManager()
    sessions.init_app(app)
    sessions.init_app(app, store="redis://localhost")
    sessions.init_app(app, store=store)
    sessions.init_app(app, store=make_store)
    SessionManager(app, store=lambda app: MemoryStore(prefix=app.name), import_session=import_session)
    SessionManager(app, import_session=from_flask(cookie="old"))
    SessionManager(app, import_session=[from_flask_session("redis://localhost"), OwnImporter(), import_session])
    OneImport(app)
    t.assert_type(sessions.interface_class, type[StoreSessionInterface])
    interface = app.session_interface
    if isinstance(interface, StoreSessionInterface):
        t.assert_type(interface.store, SessionStore)


def found(sessions: SessionManager) -> None:
    for info in sessions.find("ann"):
        t.assert_type(info, SessionInfo)
        t.assert_type(info.handle, str)
        t.assert_type(info.owner, str | None)
        t.assert_type(info.last_seen, datetime)
        t.assert_type(info.client, str | None)
        t.assert_type(sessions.revoke(info.handle, owner="ann"), bool)
    t.assert_type(sessions.revoke_all("ann", keep_current=True), int)
    with sessions.open("handle") as opened:
        t.assert_type(opened, Session)


def signal(app: flask.Flask) -> None:
    t.assert_type(session_created, NamedSignal)

    @session_renewed.connect
    def renewed(sender: flask.Flask, handle: str, previous: str, reason: str) -> None: ...

    @store_failed.connect_via(app)
    def failed(sender: flask.Flask, error: StoreUnavailable) -> None: ...

    t.assert_type(__version__, str)


def importers(own: OwnImporter) -> None:
    importer: Importer = own
    listing: Listing = from_flask_session("redis://localhost")
    importers: list[Importer] = [importer, listing, from_flask()]
    data: dict[str, object] = {"cart": ["tea"]}
    t.assert_type(to_record(data), Record)
    del importers


def make_store(app: flask.Flask) -> MemoryStore:
    return MemoryStore(prefix=f"{app.name}:")


def import_session(app: flask.Flask, request: flask.Request) -> dict[str, object] | None:
    return {"legacy": request.cookies["legacy"], "app": app.name} if "legacy" in request.cookies else None


class OwnImporter:
    cookie = "shop"
    removes = False

    def recognise(self, app: flask.Flask, text: str) -> Credential | None:
        return Credential.of(text)

    def find(self, app: flask.Flask, credential: Credential, now: float) -> Old | None:
        return Old(record=to_record({"a": credential.text}), ends_at=now + 60, kept_as="shop")

    def remove(self, credential: Credential) -> None:
        pass


class Interface(StoreSessionInterface):
    def open_session(self, app: flask.Flask, request: flask.Request) -> Session | None:
        return None if request.path == "/health" else super().open_session(app, request)


class Manager(SessionManager):
    interface_class = Interface


def stores(store: SessionStore, key: SessionKey, record: Record) -> None:
    t.assert_type(store.load(key), Record | None)
    t.assert_type(store.save(record, timedelta(hours=1)), SessionKey)
    t.assert_type(store.update(key, record, timedelta(hours=1), replaces=record.revision), SessionKey)
    t.assert_type(store.update_ttl(key), tuple[SessionKey, Record])
    t.assert_type(store.renew(key, record, timedelta(hours=1), replaces=record.revision), SessionKey)
    store.delete(key, replaces=record.revision, emptied=True)
    if isinstance(store, ServerSideStore):
        t.assert_type(store.end(key.handle), bool)
        t.assert_type(store.info(key.handle), SessionInfo | None)
    if isinstance(store, Sweeps):
        t.assert_type(store.delete_expired(100), int)
    t.assert_type(from_url("memory:"), SessionStore)
    t.assert_type(MemoryStore.from_url("memory:"), MemoryStore)
    t.assert_type(CookieStore.from_url("cookie:"), CookieStore)
    t.assert_type(FileSystemStore("folder"), FileSystemStore)


def records(record: Record) -> None:
    t.assert_type(record.revision, bytes)
    t.assert_type(record.revisions, tuple[bytes, ...])
    t.assert_type(record.owner, str | None)
    t.assert_type(record.created_at, datetime)
    t.assert_type(record.extended_at, datetime)
    t.assert_type(record.expires_at, datetime)
    t.assert_type(record.permanent, bool)
    t.assert_type(record.lifetime, timedelta | None)
    t.assert_type(record.deadline, datetime | None)


def errors() -> None:
    try:
        session["a"] = 1
    except SessionInsertError as error:
        t.assert_type(error.path, str | None)
    except SessionGetError as error:
        t.assert_type(error.expected, object)
    except SessionTooLarge as error:
        t.assert_type(error.size, int | None)
    except ConfigurationError as error:
        t.assert_type(error.key, str | None)
    except SessionConflict as error:
        t.assert_type(error.record, Record | None)
    except SessionGone as error:
        t.assert_type(
            error.kind, t.Literal["ended", "emptied", "renewed", "signed in", "replaced", "revoked", "imported"] | None
        )
    except SessionCorrupt as error:
        t.assert_type(error.newer, bool | None)
    except (StoreUnavailable, StoreError, UnsupportedByStore, SessionError) as error:
        t.assert_type(error.message, str | None)
