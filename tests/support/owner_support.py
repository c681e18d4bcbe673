"""What the tests of owners share."""

from __future__ import annotations

from flask import Flask
from http_support import Browser, started

from flask_sessionstore import SessionKey

KEY = "_user_id"


def signed_in(app: Flask, user: object = "ann", **data: object) -> Browser:
    return started(app, **{KEY: user, **data})


def handle_of(browser: Browser) -> str:
    return SessionKey(str(browser.key)).handle
