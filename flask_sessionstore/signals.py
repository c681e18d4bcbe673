"""Signals (blinker): what an application may want to count or to log.

The sender is always the application. Sessions are named by their handles; no session key and no value is ever sent. A
receiver is called within the request, right after the store has done it. One that raises is logged: it neither undoes
what was stored, nor fails the request, nor keeps the signal from others.
"""

from __future__ import annotations

import logging
import typing as t

from blinker import NamedSignal, Namespace

logger = logging.getLogger("flask_sessionstore")

_signals = Namespace()

#: A new session was stored. Arguments: ``handle`` (str; None over a store that keeps none, here and below).
session_created = _signals.signal("session-created")

#: A session goes on under a new key; the old one is dead. Arguments: ``handle`` (str), ``previous`` (str, the old
#: handle), ``reason``: "signed in" (the owner or a login key came or changed), "signed out" (it went), "cleared",
#: "renewed".
session_renewed = _signals.signal("session-renewed")

#: A session ended. Arguments: ``handle`` (str, of the one that ended: a successor's, if what was named was renewed),
#: ``how``: "purged", "cleared", "emptied", "signed out", "expired" (its deadline had come when it was to be stored),
#: "revoked" (by its handle, with all of its owner's, or by a command), "displaced" (by SESSION_MAX_PER_OWNER),
#: "ambiguous" (the browser sent the cookies of several living sessions). One that merely expires sends nothing: nobody
#: is there to notice.
session_ended = _signals.signal("session-ended")

#: Another request had written first, and this one's changes were applied to what that left. Arguments: ``handle``
#: (str), ``attempts`` (int): how often it was tried.
session_merged = _signals.signal("session-merged")

#: A request's writes were dropped, since its session went meanwhile, or before it. Arguments: ``handle`` (str, or
#: None), ``reason``: how it went: "ended", "emptied", "renewed", "signed in", "replaced", "revoked", or "unknown"; or
#: "no cookie", where they needed one and none could be sent.
session_write_dropped = _signals.signal("session-write-dropped")

#: The store holds bytes that are no session. Arguments: ``handle`` (str), ``newer`` (bool): whether a later version of
#: this package may have written them.
session_corrupt = _signals.signal("session-corrupt")

#: The store could not do what a request needed. Arguments: ``error`` (StoreUnavailable).
store_failed = _signals.signal("store-failed")


def announce(signal: NamedSignal, sender: t.Any, **arguments: t.Any) -> None:
    """Send a signal to each receiver. What one raises is logged, and keeps it from no other."""
    if not signal.receivers or signal.is_muted:
        return
    for receiver in signal.receivers_for(sender):
        try:
            sender.ensure_sync(receiver)(sender, **arguments)  # as Flask calls its own signals' receivers
        except Exception:
            logger.exception("a receiver of the signal %s failed", signal.name)
