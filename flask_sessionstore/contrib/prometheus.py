"""Metrics for Prometheus, with ``prometheus_client`` (this package's extra ``prometheus``).

Its multiprocess mode works too: what a process counts is in counters and histograms, which add up. Living sessions are
not what a process has, but what the store has: whichever process is asked for the metrics asks the store.
"""

from __future__ import annotations

import bisect
import typing as t

from flask import Flask
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from ..stores.watched import StoreCall
from .events import EVENTS, Event, Listener
from .living import DESCRIPTION, Living

#: The upper bounds of the histogram's buckets, in seconds. A store's time-outs are 1 and 2 seconds.
BUCKETS = (0.0002, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class _Seconds(Histogram):
    """A histogram for which every call of the store counts, so that finding the bucket should cost little."""

    def observer(self) -> t.Callable[[float], None]:
        """A function that does what ``observe`` does, in half the time."""
        bounds, add, buckets = self._upper_bounds, self._sum.inc, [bucket.inc for bucket in self._buckets]

        def observe(seconds: float) -> None:
            add(seconds)
            buckets[bisect.bisect_left(bounds, seconds)](1)

        return observe


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
        self._seconds = _Seconds(
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
        try:
            observe = self._observers[call.verb, call.ended]
        except KeyError:
            observe = self._observers[call.verb, call.ended] = self._seconds.labels(call.verb, call.ended).observer()
        observe(call.seconds)

    def _count(self, event: Event, value: str) -> None:
        counter = self._counters[event]
        (counter if event.label is None else counter.labels(value)).inc()


class LivingSessions(Collector):
    """A gauge of the living sessions of an application, for a registry::

        REGISTRY.register(LivingSessions(app))

    The store is asked each time when the registry is read, and never otherwise. If it fails, the gauge is absent. In
    multiprocess mode, register it where the metrics are shown: in the registry with the ``MultiProcessCollector``.

    :param app: has a :class:`~flask_sessionstore.SessionManager`, and a store that can count.
    :param namespace: what the gauge's name begins with.
    :raises UnsupportedByStore: if the store cannot count its sessions without reading all of them.
    """

    def __init__(self, app: Flask, *, namespace: str = "flask") -> None:
        self._living = Living(app)
        self._name = f"{namespace}_sessions_living"

    def describe(self) -> list[GaugeMetricFamily]:
        """The gauge without a value: registering must not ask the store, from which workers are yet to be forked."""
        return [GaugeMetricFamily(self._name, DESCRIPTION)]

    def collect(self) -> list[GaugeMetricFamily]:
        """The gauge with the number of living sessions, if the store tells it."""
        return [GaugeMetricFamily(self._name, DESCRIPTION, self._living.now())]
