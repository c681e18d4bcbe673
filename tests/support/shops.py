"""The example shop, once for each kind of cookie: one application, served on several hosts, for browsers to visit."""

from __future__ import annotations

import os
import socket
import typing as t

from flask import request, session

if t.TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

#: The settings of the shop on each host. Browsers find all that is called localhost on their own machine, and take
#: cookies from there that are for secure connections only.
SHOPS: dict[str, dict[str, t.Any]] = {
    "shop.localhost": {},
    "strict.localhost": {
        "SESSION_COOKIE_NAME": "__Host-session",
        "SESSION_COOKIE_SECURE": True,
        "SESSION_COOKIE_SAMESITE": "Strict",
    },
    "partitioned.localhost": {
        "SESSION_COOKIE_NAME": "__Host-session",
        "SESSION_COOKIE_SECURE": True,
        "SESSION_COOKIE_SAMESITE": "None",
        "SESSION_COOKIE_PARTITIONED": True,
    },
}

#: On this host a log-in, once its session is loaded, waits at the gate: a port that the test listens on, until the test
#: closes the connection.
GATED = "gated.localhost"


def make_shops() -> WSGIApplication:
    """The shops of all hosts. The caller makes sure that the shop can be imported."""
    from shop import create_app

    shops = {host: create_app(settings) for host, settings in {**SHOPS, GATED: {}}.items()}
    shops[GATED].before_request(wait_at_the_gate)

    def serve(environ: WSGIEnvironment, start_response: StartResponse) -> t.Iterable[bytes]:
        return shops[environ["HTTP_HOST"].partition(":")[0]](environ, start_response)

    return serve


def wait_at_the_gate() -> None:
    if request.method == "POST" and request.path == "/login" and session:
        with socket.create_connection(("127.0.0.1", int(os.environ["GATE"])), timeout=30) as gate:
            gate.recv(1)
