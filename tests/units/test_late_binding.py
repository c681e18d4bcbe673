"""What a server or a test tool replaces while the application runs is not kept from before: clocks, sleep, locks."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import select
import selectors
import socket
import subprocess
import sys
import threading
import time
import typing as t

import pytest

import flask_sessionstore

#: What gevent, eventlet, freezegun and time-machine replace, by the modules that have it.
_MODULES = (time, threading, socket, select, selectors)
_HOMES = {"time", "threading", "_thread", "socket", "_socket", "select", "selectors"}
_REPLACED = {
    id(value) for module in _MODULES for value in vars(module).values() if getattr(value, "__module__", "") in _HOMES
}
_LOCKS = (type(threading.Lock()), type(threading.RLock()), threading.Condition, threading.local)


#: All modules of the package.
NAMES = [found.name for found in pkgutil.walk_packages(flask_sessionstore.__path__, "flask_sessionstore.")]


def kept_from_before(namespace: t.Mapping[str, object]) -> list[str]:
    """Names under which something of the above is kept."""
    ours = {name: value for name, value in namespace.items() if not inspect.ismodule(value)}
    return [name for name, value in ours.items() if id(value) in _REPLACED or isinstance(value, _LOCKS)]


@pytest.mark.parametrize("name", NAMES)
def test_no_module_and_no_class_keeps_what_is_replaced_while_it_runs(name: str) -> None:
    module = importlib.import_module(name)
    assert kept_from_before(vars(module)) == []
    for cls in vars(module).values():
        if inspect.isclass(cls) and cls.__module__ == module.__name__:
            assert kept_from_before(vars(cls)) == [], cls


def test_what_is_kept_from_before_is_found() -> None:
    """Else the test above would always pass."""

    class Early:
        clock = time.time
        lock = threading.Lock()

    assert kept_from_before(vars(Early)) == ["clock", "lock"]


FROZEN = """
import datetime
from flask import Flask
from freezegun import freeze_time

def make():
    from flask_sessionstore import SessionManager, session
    app = Flask("frozen")
    app.config.update(SECRET_KEY="k", SESSION_STORE={url!r}, PERMANENT_SESSION_LIFETIME=3600)
    manager = SessionManager(app)
    create = getattr(app.session_interface.store, "create_schema", lambda: None)
    create()
    app.add_url_rule("/set", "set", lambda: session.__setitem__("a", 1) or "set")
    app.add_url_rule("/get", "get", lambda: str(session.get("a", "gone")))
    return app.test_client()

if {import_frozen}:
    with freeze_time("2026-01-01"):
        browser = make()
else:
    browser = make()
with freeze_time("2026-01-01") as clock:
    print(browser.get("/set").text, browser.get("/get").text)
    clock.tick(datetime.timedelta(minutes=59))
    print(browser.get("/get").text)
    clock.tick(datetime.timedelta(hours=2))
    print(browser.get("/get").text)
"""


@pytest.mark.server
@pytest.mark.parametrize("import_frozen", [False, True])
@pytest.mark.parametrize("store", ["memory", "file", "sqlite", "cookie"])
def test_freezegun_moves_the_clock(store: str, import_frozen: bool, tmp_path: t.Any) -> None:
    url = {"memory": "memory:", "file": f"file://{tmp_path}/sessions", "sqlite": f"sqlite:///{tmp_path}/s.db"}
    program = FROZEN.format(url=url.get(store, "cookie:"), import_frozen=import_frozen)
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout.split(), done.stderr) == (["set", "1", "1", "gone"], "")
