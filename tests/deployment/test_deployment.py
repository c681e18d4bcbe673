"""The demo on every server that Flask runs on, with every store that makes sense there, and a dozen browsers.

Each test is one cell of the table in docs/deployment.rst. "deployment" marks those that CI tries, "deployment_all" all.
"""

from __future__ import annotations

import os
import shutil
import typing as t

import places
import pytest
from places import PLACES
from visitors import visit
from web_servers import (
    UWSGI,
    Gunicorn,
    GunicornEventlet,
    GunicornGevent,
    Hypercorn,
    ModWSGI,
    Nginx,
    Uvicorn,
    Waitress,
    WebServer,
)

from flask_sessionstore.stores.sqlalchemy import SQLAlchemyStore


class Mode(t.NamedTuple):
    """One way to run a server."""

    server: type[WebServer]
    options: tuple[str, ...] = ()
    #: Whether the application is made, and its store used, before the server forks.
    warm: bool = False
    processes: int = 3


GTHREAD = ("--worker-class=gthread", "--threads=8")
WORKERS = {
    "sync": (Gunicorn, ()),
    "gthread": (Gunicorn, GTHREAD),
    "gevent": (GunicornGevent, ("--worker-class=gevent",)),
    "eventlet": (GunicornEventlet, ("--worker-class=eventlet",)),
}
GEVENT = ("--gevent=100",)
DAEMON = (
    "WSGIDaemonProcess demo processes=3 threads=8 python-path={path}",
    "WSGIProcessGroup demo",
    "WSGIApplicationGroup %{{GLOBAL}}",
)
EMBEDDED = ("WSGIApplicationGroup %{{GLOBAL}}", "StartServers 3")

MODES: dict[str, Mode] = {
    **{f"gunicorn-{name}": Mode(server, options) for name, (server, options) in WORKERS.items()},
    **{
        f"gunicorn-{name}-preload": Mode(server, (*options, "--preload"), warm=True)
        for name, (server, options) in WORKERS.items()
    },
    "uwsgi-prefork": Mode(UWSGI, warm=True),
    "uwsgi-threads": Mode(UWSGI, ("--enable-threads", "--threads=8"), warm=True),
    "uwsgi-lazy": Mode(UWSGI, ("--lazy-apps",)),
    "uwsgi-gevent-late": Mode(UWSGI, (*GEVENT, "--gevent-monkey-patch"), warm=True),
    "uwsgi-gevent-early": Mode(UWSGI, (*GEVENT, "--gevent-early-monkey-patch"), warm=True),
    "waitress": Mode(Waitress, ("--threads=8",), processes=1),
    "hypercorn": Mode(Hypercorn, ("demo_asgi:asgi",), processes=2),
    "hypercorn-threads": Mode(Hypercorn, ("demo_asgi:threads",), processes=2),
    "uvicorn": Mode(Uvicorn, ("demo_asgi:asgi",), processes=2),
    "uvicorn-threads": Mode(Uvicorn, ("demo_asgi:threads",), processes=2),
    "mod_wsgi-daemon": Mode(ModWSGI, DAEMON),
    "mod_wsgi-embedded": Mode(ModWSGI, EMBEDDED),
    "nginx": Mode(Nginx, GTHREAD),
}
#: Not with every server: stores of one process, and those that differ from another in how they come by a connection.
ONE_PROCESS = {"waitress", "hypercorn", "uvicorn", *(name for name in MODES if "thread" in name or "event" in name)}
WHERE = {
    "memory": ONE_PROCESS,
    "redis-client": {"gunicorn-sync-preload", "gunicorn-gevent-preload", "uwsgi-prefork", "uwsgi-gevent-late"},
    "postgresql-engine": {"gunicorn-sync-preload", "gunicorn-gevent-preload", "uwsgi-prefork", "uwsgi-gevent-late"},
    "dynamodb": {"gunicorn-sync-preload", "gunicorn-gevent", "uwsgi-prefork", "uwsgi-gevent-early"},
    "redis-cluster": {"gunicorn-gthread", "gunicorn-gthread-preload"},
    "redis-sentinel": {"gunicorn-gthread", "gunicorn-gthread-preload"},
}


def make_table(server: WebServer) -> None:
    """As who deploys the demo does, with "flask sessions create-schema"."""
    file = server.instance / "sessions.db"
    store = SQLAlchemyStore.from_url(f"sqlite:///{file}")
    store.create_schema()
    store.engine.dispose()
    if server.account and os.geteuid() == 0:
        shutil.chown(file, server.account)


def cells() -> t.Iterator[t.Any]:
    for mode in MODES:
        for store in PLACES:
            if mode in WHERE.get(store, MODES):
                yield pytest.param(mode, store, id=f"{mode}-{store}", marks=marks(mode, store))


def marks(mode: str, store: str) -> list[pytest.MarkDecorator]:
    """CI tries every server with Redis, and every store where the application was used before the server forked."""
    chosen = store == "redis" or MODES[mode].warm
    return [pytest.mark.deployment_all, *([pytest.mark.deployment] if chosen else [])]


@pytest.mark.parametrize(("mode", "store"), list(cells()))
def test_everybody_has_their_own_session(mode: str, store: str, request: pytest.FixtureRequest) -> None:
    kind = MODES[mode]
    settings = places.settings(store, request, warm=kind.warm)
    server = kind.server(settings, 1 if store == "memory" else kind.processes, *kind.options)
    if store == "sqlite":
        make_table(server)
    with server:
        if wrong := visit(server.port, PLACES[store].abilities):
            log = "".join(list(server.log)[-60:])
            pytest.fail("\n".join([f"{len(wrong)} things were wrong:", *wrong[:15], log]), pytrace=False)
