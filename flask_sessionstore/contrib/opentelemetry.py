"""Traces and metrics for OpenTelemetry, with ``opentelemetry-api`` (this package's extra ``opentelemetry``).

Without an SDK that the application sets up, OpenTelemetry's API does nothing.
"""

from __future__ import annotations

import time
import typing as t

from flask import Flask
from opentelemetry import metrics, trace
from opentelemetry.trace import SpanKind, StatusCode

from ..stores.watched import StoreCall
from .events import EVENTS, Event, Receivers
from .living import DESCRIPTION, Living

_SCOPE = "flask_sessionstore"
_FAILURES = ("unavailable", "failed")


class SessionTelemetry:
    """A span for every call of the store within a trace, a histogram of all calls, and counters of what happens::

        sessions = SessionManager(app, on_store_call=SessionTelemetry())

    What happens to sessions is also added to the current span, as an event. One object may serve several applications.

    :param tracer_provider: None: the global one.
    :param meter_provider: None: the global one.
    """

    def __init__(
        self,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
    ) -> None:
        self._tracer = trace.get_tracer(_SCOPE, tracer_provider=tracer_provider)
        meter = metrics.get_meter(_SCOPE, meter_provider=meter_provider)
        self._seconds = meter.create_histogram(
            "session.store.call.duration", unit="s", description="Calls of the session store."
        )
        self._counters = {
            event: meter.create_counter(event.name.replace("_", "."), unit="1", description=event.description)
            for event in EVENTS
        }
        self._receivers = Receivers(self._count)

    def __call__(self, call: StoreCall) -> None:
        """Measure one call, and make its span if the request is traced."""
        attributes = {"session.store.verb": call.verb, "session.store.ended": call.ended}
        self._seconds.record(call.seconds, attributes)
        if trace.get_current_span().is_recording():
            ended_at = time.time_ns()
            span = self._tracer.start_span(
                f"session {call.verb}",
                kind=SpanKind.CLIENT,
                attributes=attributes,
                start_time=ended_at - int(call.seconds * 1e9),
            )
            if call.ended in _FAILURES:
                span.set_status(StatusCode.ERROR)
            span.end(ended_at)

    def listen_to(self, app: Flask) -> None:
        """Count what happens to the sessions of ``app``. A :class:`~flask_sessionstore.SessionManager` calls this."""
        self._receivers.listen_to(app)

    def _count(self, event: Event, value: str) -> None:
        attributes: dict[str, t.Any] = {} if event.label is None else {f"session.{event.label}": value}
        self._counters[event].add(1, attributes)
        trace.get_current_span().add_event(event.signal.name, attributes)


def observe_living_sessions(app: Flask, *, meter_provider: metrics.MeterProvider | None = None) -> None:
    """Make an observable gauge of the living sessions of ``app``. The store is asked each time when the metrics are
    read. If it fails, nothing is observed.

    :param app: has a :class:`~flask_sessionstore.SessionManager`, and a store that can count.
    :param meter_provider: None: the global one.
    :raises UnsupportedByStore: if the store cannot count its sessions without reading all of them.
    """
    living = Living(app)

    def observe(_options: metrics.CallbackOptions) -> list[metrics.Observation]:
        number = living.now()
        return [] if number is None else [metrics.Observation(number)]

    meter = metrics.get_meter(_SCOPE, meter_provider=meter_provider)
    meter.create_observable_gauge("sessions.living", [observe], unit="1", description=DESCRIPTION)
