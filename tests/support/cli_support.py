"""Runs ``flask sessions`` for the tests."""

from __future__ import annotations

import inspect
import typing as t

from click.testing import CliRunner, Result
from flask import Flask
from http_support import Browser, make_app

from flask_sessionstore import session

_IS_MIXED = "mix_stderr" in inspect.signature(CliRunner.__init__).parameters


def shop(store: object, **config: object) -> Flask:
    return make_app(store, **{"SESSION_OWNER_KEY": "user", **config})


def run(app: Flask, *args: str, apart: bool = False, **options: t.Any) -> Result:
    """Run one command, which must not end in a traceback.

    :param apart: whether to keep standard error apart from standard output. Before 8.2, click mixes them otherwise.
    """
    runner = app.test_cli_runner(**({"mix_stderr": False} if apart and _IS_MIXED else {}))
    result = runner.invoke(args=["sessions", *args], **options)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


def output(app: Flask, *args: str) -> str:
    result = run(app, *args, apart=True)
    assert result.exit_code == 0, result.output + result.stderr
    return result.stdout


def error(app: Flask, *args: str, code: int = 1) -> str:
    """Run a command that fails, and return its last line."""
    result = run(app, *args)
    assert result.exit_code == code, result.output
    *before, last = result.output.strip().split("\n")
    assert code == 2 or not before
    return last


def handle_of(browser: Browser) -> str:
    return t.cast("str", browser.asks(lambda: session.handle))
