"""An application with Flask-Login and this package."""

from __future__ import annotations

import typing as t

import pytest
from clients import buy, messages, renew
from flask import Flask, flash, redirect

from flask_sessionstore import SessionManager, SessionStore, session

flask_login = pytest.importorskip("flask_login")


class User(flask_login.UserMixin):  # type: ignore[misc, name-defined]  # Flask-Login has no types
    def __init__(self, name: str) -> None:
        self.id = name


def make_app(store: SessionStore, **config: object) -> Flask:
    """A small application, written as Flask-Login's documentation shows it."""
    app = Flask("with_flask_login")
    app.config.update(SECRET_KEY="a secret", SESSION_STORE=store, TESTING=True, **config)
    SessionManager(app)
    manager = flask_login.LoginManager(app)
    manager.login_view = "log_in"
    manager.user_loader(User)
    for path, view in VIEWS.items():
        app.add_url_rule(path, view.__name__, view)
    return app


def index() -> str:
    user = flask_login.current_user
    return f"{user.id if user.is_authenticated else 'nobody'}, cart: {session.get('cart')}"


def public() -> str:
    return "for all"


def log_in(name: str = "ann") -> t.Any:
    flask_login.login_user(User(name))
    flash(f"Welcome, {name}.")
    return redirect("/")


def log_in_as(name: str) -> t.Any:
    return log_in(name)


def log_in_remembered() -> str:
    flask_login.login_user(User("ann"), remember=True)
    return ""


def log_out() -> t.Any:
    flask_login.logout_user()
    flash("Good bye.")
    return redirect("/")


def kept() -> str:
    """What Flask-Login keeps in the session."""
    return " ".join(f"{name}={session[name]}" for name in ("_user_id", "_fresh", "_id", "_remember") if name in session)


def confirm() -> str:
    flask_login.confirm_login()
    return ""


@flask_login.login_required  # type: ignore[untyped-decorator]  # as above
def private() -> str:
    return "for members"


@flask_login.fresh_login_required  # type: ignore[untyped-decorator]  # as above
def fresh() -> str:
    return "for those who have just logged in"


VIEWS: dict[str, t.Callable[..., t.Any]] = {
    "/": index,
    "/public": public,
    "/buy": buy,
    "/login": log_in,
    "/login/<name>": log_in_as,
    "/remember": log_in_remembered,
    "/logout": log_out,
    "/messages": messages,
    "/kept": kept,
    "/renew": renew,
    "/confirm": confirm,
    "/private": private,
    "/fresh": fresh,
}
