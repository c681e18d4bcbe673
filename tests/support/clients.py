"""Flask's test clients: their cookies, and the routes that several log-ins share."""

from __future__ import annotations

from flask import Flask, get_flashed_messages
from flask.testing import FlaskClient

from flask_sessionstore import session


def cookie(client: FlaskClient) -> str:
    """The session cookie that a client holds."""
    found = client.get_cookie("session")
    assert found is not None
    return found.value


def key(client: FlaskClient) -> str:
    """The session key in that cookie."""
    return cookie(client).rsplit(".", 2)[0]


def with_cookie(app: Flask, value: str) -> FlaskClient:
    """A new client that sends this cookie."""
    client = app.test_client()
    client.set_cookie("session", value)
    return client


def renew() -> str:
    session.renew()
    return ""


def buy() -> str:
    session.setdefault("cart", []).append("mug")
    return ""


def messages() -> str:
    return " ".join(map(str, get_flashed_messages()))
