"""What the tests of log-in keys share."""

from __future__ import annotations

import typing as t

import pytest
from http_support import Browser

from flask_sessionstore.signals import session_ended, session_renewed, session_write_dropped

each = pytest.mark.parametrize


class Heard:
    """Records the signals: why sessions were renewed, how they ended, and why writes were dropped."""

    def __init__(self) -> None:
        self.renewed: list[str] = []
        self.ended: list[str] = []
        self.dropped: list[str] = []

    def __enter__(self) -> t.Self:
        session_renewed.connect(self._renewed)
        session_ended.connect(self._ended)
        session_write_dropped.connect(self._dropped)
        return self

    def __exit__(self, *_: object) -> None:
        session_renewed.disconnect(self._renewed)
        session_ended.disconnect(self._ended)
        session_write_dropped.disconnect(self._dropped)

    def _renewed(self, sender: object, *, reason: str, **_: object) -> None:
        self.renewed.append(reason)

    def _ended(self, sender: object, *, how: str, **_: object) -> None:
        self.ended.append(how)

    def _dropped(self, sender: object, *, reason: str, **_: object) -> None:
        self.dropped.append(reason)


def renewals(browser: Browser, action: t.Callable[[], object], body: str = "") -> list[str]:
    """The reasons for which the request renewed its session. If there are none, the browser must still have its key."""
    before = browser.key
    with Heard() as heard:
        browser.does(action, body=body)
    assert heard.ended == heard.dropped == []
    assert (browser.key != before) is bool(heard.renewed)
    return heard.renewed
