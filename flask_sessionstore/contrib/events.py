"""What is counted: one counter for each signal, the same for every library."""

from __future__ import annotations

import typing as t

from blinker import NamedSignal
from flask import Flask

from .. import signals


class Event(t.NamedTuple):
    """What a signal says, as a counter. Handles are never labels: each would be a time series of its own."""

    signal: NamedSignal
    #: The counter's name: plural, words separated by "_".
    name: str
    #: What it counts.
    description: str
    #: The counter's only label, and the function that finds its value in the signal's arguments; None: no label.
    label: str | None = None
    value: t.Callable[[t.Mapping[str, t.Any]], str] = lambda sent: ""


EVENTS = (
    Event(signals.session_created, "sessions_created", "New sessions that were stored."),
    Event(
        signals.session_renewed,
        "sessions_renewed",
        "Sessions that went on under a new key.",
        "reason",
        lambda sent: str(sent["reason"]),
    ),
    Event(signals.session_ended, "sessions_ended", "Sessions that were ended.", "how", lambda sent: str(sent["how"])),
    Event(signals.session_merged, "sessions_merged", "Writes that were merged with another request's."),
    Event(
        signals.session_write_dropped,
        "session_writes_dropped",
        "Requests whose writes were dropped, since their session had gone.",
        "reason",
        lambda sent: str(sent["reason"]),
    ),
    Event(
        signals.session_corrupt,
        "sessions_corrupt",
        "Records that could not be read.",
        "newer",
        lambda sent: str(sent["newer"]).lower(),
    ),
    Event(
        signals.store_failed,
        "session_store_failures",
        "Requests that failed because of the store.",
        "lost",
        lambda sent: sent["error"].lost or "answered",
    ),
    Event(signals.store_recovered, "session_store_recoveries", "Times that the store answered again."),
)

#: Called with an event, and the value of its label.
Count = t.Callable[[Event, str], object]


class Receivers:
    """Count the signals of applications.

    :param count: counts one event.
    """

    def __init__(self, count: Count) -> None:
        # blinker holds these weakly, so they live as long as whoever holds this object.
        self._receivers = [(event.signal, _receiver(event, count)) for event in EVENTS]

    def listen_to(self, app: Flask) -> None:
        """Count those of ``app`` too."""
        for signal, receiver in self._receivers:
            signal.connect(receiver, sender=app)


def _receiver(event: Event, count: Count) -> t.Callable[..., None]:
    def receive(_sender: Flask, **sent: t.Any) -> None:
        count(event, event.value(sent))

    return receive
