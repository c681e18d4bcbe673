"""SQLAlchemyStore beside the application's own transactions."""

from __future__ import annotations

import typing as t
from datetime import timedelta
from uuid import uuid4

import pytest
import sqlalchemy as sa
from flask import Flask, session
from sql_stores import make_engine, pass_time, with_driver

from flask_sessionstore import Record, SessionManager
from flask_sessionstore.stores.sqlalchemy import SQLAlchemyStore

DAY = timedelta(days=1)


class Shop(t.NamedTuple):
    """An application with a table and sessions in one database."""

    app: Flask
    store: SQLAlchemyStore
    db: t.Any
    thing: t.Any

    def stored(self) -> int:
        """How many things others see."""
        engine = make_engine(str(self.app.config["SQLALCHEMY_DATABASE_URI"]))
        with engine.connect() as connection:
            count = connection.execute(sa.select(sa.func.count()).select_from(self.thing.__table__)).scalar_one()
        engine.dispose()
        return count


@pytest.fixture
def shop(url: str) -> t.Iterator[Shop]:
    flask_sqlalchemy = pytest.importorskip("flask_sqlalchemy")
    db = flask_sqlalchemy.SQLAlchemy()

    class Thing(db.Model):  # type: ignore[name-defined, misc]
        __tablename__ = f"things_{uuid4().hex[:8]}"
        id = db.Column(db.Integer, primary_key=True)

    app = Flask("shop")
    app.config.update(SECRET_KEY="a secret", TESTING=True, SQLALCHEMY_DATABASE_URI=with_driver(url))
    db.init_app(app)
    SessionManager(app, store=lambda app: SQLAlchemyStore(db.engine, prefix=f"{uuid4()}:"))
    store = t.cast("SQLAlchemyStore", t.cast("t.Any", app.session_interface).store)
    with app.app_context():
        db.create_all()
        store.create_schema()
    yield Shop(app, store, db, Thing)
    store.engine.dispose()


def test_what_the_view_did_not_commit_stays_uncommitted(shop: Shop) -> None:
    """A session is read, saved and changed while the view's transaction is open, and neither knows of the other."""

    @shop.app.get("/")
    def index() -> str:
        shop.db.session.add(shop.thing())
        if shop.db.engine.name != "sqlite":  # of which one connection writes at a time
            shop.db.session.flush()
        session["n"] = session.get("n", 0) + 1
        session.save()  # type: ignore[attr-defined]
        assert shop.stored() == 0
        return str(session["n"])

    browser = shop.app.test_client()
    assert [browser.get("/").text for _ in range(3)] == ["1", "2", "3"]
    assert shop.stored() == 0


def test_a_rollback_of_the_view_keeps_the_session_and_a_commit_is_its_own(shop: Shop) -> None:
    @shop.app.get("/<what>")
    def index(what: str) -> str:
        session["n"] = session.get("n", 0) + 1
        session.save()  # type: ignore[attr-defined]
        shop.db.session.add(shop.thing())
        getattr(shop.db.session, what)()
        return str(session["n"])

    browser = shop.app.test_client()
    assert [browser.get(path).text for path in ("/rollback", "/commit", "/rollback")] == ["1", "2", "3"]
    assert shop.stored() == 1


def test_the_applications_connections_come_back_as_they_were(store: SQLAlchemyStore, engine: sa.Engine) -> None:
    """Those that this store has borrowed still have transactions."""
    given = SQLAlchemyStore(engine, prefix=store.prefix)
    key = given.save(Record(state={"a": b"1"}), DAY)
    with engine.connect() as connection:
        connection.execute(sa.delete(given.table).where(given.table.c.handle == key.handle))
        connection.rollback()
    assert given.load(key) is not None


def test_several_applications_share_a_database(url: str) -> None:
    """By their prefixes in one table, or by tables of their own."""
    name = f"t{uuid4().hex[:8]}"
    options: list[dict[str, t.Any]] = [{"prefix": "one:"}, {"prefix": "two:"}, {"prefix": "one:", "table": name}]
    stores = [SQLAlchemyStore.from_url(url, **option) for option in options]
    keys = []
    for store in stores:
        store.create_schema()
        keys.append(store.save(Record(state={"a": b"1"}), timedelta(seconds=5)))
    assert [[s.load(key) is not None for key in keys] for s in stores] == [
        [True, False, False], [False, True, False], [False, False, True],
    ]  # fmt: skip
    pass_time(stores[1], 6)
    assert stores[1].delete_expired() == 1
    assert [s.load(key) is not None for s, key in zip(stores, keys, strict=True)] == [True, False, True]
    for store in stores:
        store.engine.dispose()
