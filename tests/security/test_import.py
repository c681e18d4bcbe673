"""Import: a cookie that is to name a session of another package names none of ours."""

from __future__ import annotations

import typing as t
import uuid

import pytest
import servers
from flask import Flask
from http_support import Browser, make_app, started
from test_docs import MOVING, REDIS_URL, python_blocks, run_block

from flask_sessionstore import SessionManager, session
from flask_sessionstore.stores import list_name
from flask_sessionstore.stores.redis import RedisStore


@pytest.fixture
def recipe(valkey: servers.RedisServer) -> t.Iterator[dict[str, t.Any]]:
    """What the page about moving from Flask-Session defines, with this server's old sessions."""
    (block,) = (block for block in python_blocks(MOVING) if "old_sessions = " in block.source)
    namespace: dict[str, t.Any] = {}
    run_block(block, block.source.replace(REDIS_URL, valkey.url), MOVING, namespace)
    yield namespace
    namespace["old_sessions"].close()


@pytest.fixture
def app(recipe: dict[str, t.Any]) -> Flask:
    """An application in the same database, with the prefix that both packages have by default."""
    app = make_app(RedisStore(recipe["old_sessions"]))
    app.extensions.clear()
    SessionManager(app, import_session=recipe["import_session"])
    return app


@pytest.mark.parametrize("text", ["{handle}", "owners:{list}"])
def test_no_imported_name_reaches_a_session_of_ours(text: str, app: Flask, recipe: dict[str, t.Any]) -> None:
    owner = f"ann-{uuid.uuid4()}"
    victim = started(app, _user_id=owner)
    name = text.format(handle=victim.asks(lambda: session.handle), list=list_name(owner))
    assert recipe["old_sessions"].exists(f"session:{name}")
    assert Browser(app, name).data == {}
    assert victim.data == {"_user_id": owner}
    with app.app_context():
        assert len(app.extensions["sessionstore"].find(owner)) == 1
