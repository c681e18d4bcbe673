"""Metrics for Prometheus, with ``prometheus_client`` (this package's extra ``prometheus``).

Its multiprocess mode works too: all metrics are counters and histograms.
"""

from __future__ import annotations

import typing as t

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram

from ..stores.watched import StoreCall
from .events import EVENTS, Event, Listener

#: The upper bounds of the histogram's buckets, in seconds. A store's time-outs are 1 and 2 seconds.
BUCKETS = (0.0002, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class SessionMetrics:
    """Counts what happens to sessions, and measures the calls of their store::

        sessions = SessionManager(app, on_store_call=SessionMetrics())

    One object may serve several applications; then it counts all of them together.

    :param registry: where the metrics are registered.
    :param namespace: what their names begin with.
    :param buckets: the upper bounds of the histogram's buckets, in seconds.
    """

    def __init__(
        self,
        *,
        registry: CollectorRegistry = REGISTRY,
        namespace: str = "flask",
        buckets: t.Sequence[float] = BUCKETS,
    ) -> None:
        self._seconds = Histogram(
            "session_store_call_seconds",
            "Calls of the session store.",
            ["verb", "ended"],
            namespace=namespace,
            buckets=buckets,
            registry=registry,
        )
        self._counters = {
            event: Counter(
                event.name,
                event.description,
                [] if event.label is None else [event.label],
                namespace=namespace,
                registry=registry,
            )
            for event in EVENTS
        }
        # To find a labelled metric takes longer than to use it.
        self._observers: dict[tuple[str, str], t.Callable[[float], object]] = {}
        self._listener = Listener(self, self._count)

    def __call__(self, call: StoreCall) -> None:
        """Measure one call."""
        verb, seconds, ended = call
        observe = self._observers.get((verb, ended))
        if observe is None:
            observe = self._observers[verb, ended] = self._seconds.labels(verb, ended).observe
        observe(seconds)

    def _count(self, event: Event, value: str) -> None:
        counter = self._counters[event]
        (counter if event.label is None else counter.labels(value)).inc()
