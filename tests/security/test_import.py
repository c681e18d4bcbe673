"""Import: a cookie that is to name a session of another package names none of ours."""

from __future__ import annotations

import typing as t
import uuid

import pytest
import redis
import servers
from flask import Flask
from http_support import Browser, make_app, started

from flask_sessionstore import SessionManager, session
from flask_sessionstore.migrate import from_flask_session
from flask_sessionstore.stores import list_name
from flask_sessionstore.stores.redis import RedisStore


@pytest.fixture
def client(valkey: servers.RedisServer) -> t.Iterator[t.Any]:
    """Of a server that has the sessions of both packages."""
    with redis.Redis.from_url(valkey.url) as client:
        yield client


@pytest.fixture(params=[32, 48])
def app(client: t.Any, request: pytest.FixtureRequest) -> Flask:
    """An application in the same database, with the prefix that both packages have by default."""
    app = make_app(RedisStore(client))
    app.extensions.clear()
    SessionManager(app, import_session=from_flask_session(client, id_length=request.param, remove=True))
    return app


@pytest.mark.parametrize("text", ["{handle}", "owners:{list}"])
def test_no_imported_name_reaches_a_session_of_ours(text: str, app: Flask, client: t.Any) -> None:
    owner = f"ann-{uuid.uuid4()}"
    victim = started(app, _user_id=owner)
    name = text.format(handle=victim.asks(lambda: session.handle), list=list_name(owner))
    assert client.exists(f"session:{name}")
    assert Browser(app, name).data == {}
    assert victim.data == {"_user_id": owner}
    with app.app_context():
        assert len(app.extensions["sessionstore"].find(owner)) == 1
