"""The applications on the engines beyond files and one Redis: each function makes one, for one scenario.

Both projects reach an engine by the same driver. Flask-Session's SQLAlchemy back end uses Flask-SQLAlchemy
with its defaults; its Memcached back end gets pymemcache's client here.
"""

from __future__ import annotations

import typing as t
from functools import partial

from flask import Flask

from .apps import Place, flask_session, ours
from .scenarios import Scenario

if t.TYPE_CHECKING:
    from flask_sessionstore.stores.sqlalchemy import SQLAlchemyStore

MakeApp = t.Callable[[Scenario, Place], Flask]

SQL = ("SQLite", "PostgreSQL", "MariaDB")
MEMORY, TWO_TIERS = "this project, memory", "this project, memory before Valkey"
PREPARED = "this project, PostgreSQL, prepared statements"
THEIRS, OURS = "Flask-Session, {}".format, "this project, {}".format


def database_url(engine: str, owner: str, scenario: Scenario, place: Place) -> str:
    if engine == "SQLite":
        return f"sqlite:///{place.folder_of(f'sqlite {owner}', scenario)}/sessions.db"
    return place.url_of(engine)


def sqlalchemy_store(url: str, **options: t.Any) -> SQLAlchemyStore:
    from flask_sessionstore.stores.sqlalchemy import SQLAlchemyStore

    store = SQLAlchemyStore.from_url(url, **options)
    store.create_schema()
    return store


def theirs_sql(engine: str, scenario: Scenario, place: Place) -> Flask:
    from flask_sqlalchemy import SQLAlchemy

    db = SQLAlchemy()
    url = database_url(engine, "theirs", scenario, place)
    config = {"SESSION_TYPE": "sqlalchemy", "SESSION_SQLALCHEMY": db, "SQLALCHEMY_DATABASE_URI": url}
    return flask_session(config, scenario, db.init_app)


def ours_sql(engine: str, scenario: Scenario, place: Place, **options: t.Any) -> Flask:
    return ours(sqlalchemy_store(database_url(engine, "ours", scenario, place), **options), scenario)


def theirs_memcached(scenario: Scenario, place: Place) -> Flask:
    from pymemcache.client.base import Client

    client = Client(place.url_of("Memcached").partition("//")[2], no_delay=True)
    return flask_session({"SESSION_TYPE": "memcached", "SESSION_MEMCACHED": client}, scenario)


def ours_memcached(scenario: Scenario, place: Place) -> Flask:
    from flask_sessionstore.stores.memcached import MemcachedStore

    return ours(MemcachedStore.from_url(place.url_of("Memcached")), scenario)


def ours_two_tiers(scenario: Scenario, place: Place) -> Flask:
    """Its samples are shorter than the life of a cached session, and each begins with a run that is not timed."""
    from flask_sessionstore.stores.caching import CachingStore
    from flask_sessionstore.stores.memory import MemoryStore
    from flask_sessionstore.stores.redis import RedisStore

    return ours(CachingStore(MemoryStore(), RedisStore.from_url(place.redis_url("Valkey", scenario))), scenario)


APPS: dict[str, MakeApp] = {TWO_TIERS: ours_two_tiers}
for name in SQL:
    APPS |= {THEIRS(name): partial(theirs_sql, name), OURS(name): partial(ours_sql, name)}
APPS |= {PREPARED: partial(ours_sql, "PostgreSQL", prepared=True)}
APPS |= {THEIRS("Memcached"): theirs_memcached, OURS("Memcached"): ours_memcached}
