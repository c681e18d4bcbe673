"""Signals (blinker): what an application may want to count or to log. No session key, no value is ever sent."""

from __future__ import annotations

from blinker import Namespace

_signals = Namespace()

#: A request's writes were dropped, since its session had ended or was renewed meanwhile. Sender: the application.
#: Arguments: ``handle`` (str), ``reason`` ("ended", "emptied", "renewed", "revoked", "unknown", "ambiguous").
session_write_dropped = _signals.signal("session-write-dropped")
