"""Signals (blinker): what an application may want to count or to log.

The sender is always the application. Sessions are named by their handles; session keys and values are never sent.
Receivers are called within the request, right after the store has done its work. If a receiver raises, the exception is
logged: what was stored stays, the request goes on, and the other receivers still get the signal.
"""

from __future__ import annotations

import inspect
import logging
import typing as t
from collections.abc import Coroutine

from blinker import NamedSignal, Namespace
from flask import Flask

logger = logging.getLogger("flask_sessionstore")

_signals = Namespace()

session_created = _signals.signal("session-created")
"""A new session was stored. Arguments: ``handle`` (str; None with a store without handles, here and below)."""

session_renewed = _signals.signal("session-renewed")
"""A session goes on under a new key; the old one is dead. Arguments: ``handle`` (str), ``previous`` (str, the old
handle), ``reason``: "signed in" (the owner or a login key was set or changed), "signed out" (it was removed),
"cleared", "renewed".
"""

session_ended = _signals.signal("session-ended")
"""A session ended. Arguments: ``handle`` (str, of the session that ended; if the session that was named had been
renewed, the successor's), ``how``: "purged", "cleared", "emptied", "signed out", "expired" (its deadline had passed
when it was to be stored), "revoked" (by its handle, with all sessions of its owner, or by a command), "displaced" (by
SESSION_MAX_PER_OWNER), "ambiguous" (the browser sent the cookies of several living sessions). A session that expires in
the store sends no signal, since no request notices it.
"""

session_merged = _signals.signal("session-merged")
"""Another request had written first, and this request's changes were applied to the newer record. Arguments: ``handle``
(str), ``attempts`` (int): how many times the write was tried.
"""

session_write_dropped = _signals.signal("session-write-dropped")
"""A request's writes were dropped, since its session went during the request or before it. Arguments: ``handle`` (str,
or None), ``reason``: how the session went: "ended", "emptied", "renewed", "signed in", "replaced", "revoked", or
"unknown"; or "no cookie", if the writes needed a new cookie and it could not be sent.
"""

session_corrupt = _signals.signal("session-corrupt")
"""The store holds bytes that cannot be read as a session. Arguments: ``handle`` (str), ``newer`` (bool): whether a
later version of this package may have written them.
"""

store_failed = _signals.signal("store-failed")
"""The store could not do what a request needed. Arguments: ``error`` (StoreUnavailable)."""

store_recovered = _signals.signal("store-recovered")
"""The store's engine answers this process again, after it could not be reached or did not answer in time. Sent while a
request asks the store, so a receiver must not use the session. No arguments.
"""


def announce(signal: NamedSignal, sender: t.Any, **arguments: t.Any) -> None:
    """Send a signal to each receiver. What a receiver raises is logged, and the others still get the signal."""
    if not signal.receivers or signal.is_muted:
        return
    for receiver in signal.receivers_for(sender):
        try:
            answer = receiver(sender, **arguments)
            # To find out whether it is a coroutine takes longer than most receivers, and those answer nothing.
            if answer is not None and inspect.iscoroutinefunction(receiver):
                _wait_for(answer, sender)
        except Exception:
            logger.exception("a receiver of the signal %s failed", signal.name)


def _wait_for(answer: t.Any, app: Flask) -> None:
    """Wait for a coroutine's end by what Flask has for it."""
    try:
        app.ensure_sync(_awaited)(answer)
    except BaseException:
        if isinstance(answer, Coroutine):
            answer.close()  # it may not have begun, of which Python would warn
        raise


async def _awaited(answer: t.Awaitable[object]) -> None:
    await answer
