"""Two shops and a hostile host below one domain, for a browser to visit.

``shop.example.test`` has a ``__Host-`` cookie and ``till.example.test`` a plain one; ``evil.example.test`` sets what it
likes.
"""

from __future__ import annotations

import os
import typing as t

import flask_login
from flask import Flask, request

from flask_sessionstore import SessionManager, session

if t.TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

SHOP, TILL, EVIL = "shop.example.test", "till.example.test", "evil.example.test"


class User(flask_login.UserMixin):  # type: ignore[misc]  # Flask-Login has no types
    def __init__(self, name: str) -> None:
        self.id = name


def make_shop(name: str) -> Flask:
    app = Flask(name)
    app.config.update(
        SECRET_KEY=os.urandom(32),
        SESSION_STORE="memory:",
        SESSION_COOKIE_NAME=name,
        SESSION_COOKIE_SECURE=True,
        SESSION_COOKIE_SAMESITE="Lax",
    )
    SessionManager(app)
    flask_login.LoginManager(app).user_loader(User)

    @app.get("/")
    def index() -> str:
        return str(getattr(flask_login.current_user, "id", "nobody"))

    @app.get("/cart")
    def cart() -> str:
        session["cart"] = ["mug"]
        return "in the cart"

    @app.get("/login")
    def form() -> str:
        return "<form method=post><input name=name><button>Log in</button></form>"

    @app.post("/login")
    def login() -> str:
        flask_login.login_user(User(request.form["name"]))
        return "welcome"

    @app.get("/logout/clear")
    def clear() -> str:
        session.clear()
        return "bye"

    @app.get("/logout/flask-login")
    def logout() -> str:
        flask_login.logout_user()
        return "bye"

    @app.get("/header")
    @app.get("/logout/header")
    def header() -> str:
        return str(request.environ.get("HTTP_COOKIE", "").encode("latin-1").hex())

    return app


def evil(environ: WSGIEnvironment, start_response: StartResponse) -> t.Iterable[bytes]:
    """Set the cookie that the query asks for, byte by byte."""
    cookie = bytes.fromhex(environ["QUERY_STRING"]).decode("latin-1")
    start_response("200 OK", [("Content-Type", "text/html"), ("Set-Cookie", cookie)])
    return [b"Look at these cats!"]


def make_hosts() -> WSGIApplication:
    """The applications, by host."""
    hosts: dict[str, WSGIApplication] = {SHOP: make_shop("__Host-session"), TILL: make_shop("session"), EVIL: evil}

    def serve(environ: WSGIEnvironment, start_response: StartResponse) -> t.Iterable[bytes]:
        return hosts[environ["HTTP_HOST"].partition(":")[0]](environ, start_response)

    return serve
