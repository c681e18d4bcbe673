"""``flask sessions`` as the tests call it."""

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
    """One command, that must not end in a traceback.

    :param apart: whether to tell standard error from standard output; click before 8.2 has either these or both as one.
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
    """The last line of a command that fails."""
    result = run(app, *args)
    assert result.exit_code == code, result.output
    *before, last = result.output.strip().split("\n")
    assert code == 2 or not before
    return last


def handle_of(browser: Browser) -> str:
    return t.cast("str", browser.asks(lambda: session.handle))
