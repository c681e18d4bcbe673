"""Metrics for Prometheus, with ``prometheus_client`` (this package's extra ``prometheus``).

Its multiprocess mode works too: what a process counts is in counters and histograms, which add up. Living sessions are
not what a process has, but what the store has: whichever process is asked for the metrics asks the store.
"""

from __future__ import annotations

import os
import threading
import typing as t
from bisect import bisect_right
from math import inf

from flask import Flask
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from ..stores import PerProcess
from ..stores.watched import StoreCall
from .events import EVENTS, Event, Receivers
from .living import DESCRIPTION, Living

#: The upper bounds of the histogram's buckets, in seconds. A store's time-outs are 1 and 2 seconds.
BUCKETS = (0.0002, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

# By either name prometheus_client finds the folder of its multiprocess mode; the second is its older one.
_MULTIPROCESS = {"PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"}
_CALLS, _DESCRIPTION, _LABELS = "session_store_call_seconds", "Calls of the session store.", ("verb", "ended")


class _Series:
    """The calls that have the same labels. A hundred are counted at once, which is several times as quick."""

    _AT_ONCE: t.Final = 100

    def __init__(self, bounds: t.Sequence[float]) -> None:
        self._bounds = bounds
        self._uncounted: list[float] = []
        self._counted = [0] * (len(bounds) + 1), 0.0
        # For what was counted: to append, and to delete a slice, is one step. After a fork, a thread that was left
        # behind may hold the parent's lock.
        self._locks = PerProcess(threading.Lock)

    def observe(self, seconds: float) -> None:
        self._uncounted.append(seconds)
        # Whoever counts now may have been interrupted by this call, and would never go on if this call waited.
        if len(self._uncounted) >= self._AT_ONCE and not self._locks.get().locked():
            self.counted()

    def counted(self) -> tuple[list[int], float]:
        """How many calls took no longer than each bound, and how many there were; and the sum of their seconds."""
        with self._locks.get():
            new = sorted(self._uncounted)
            del self._uncounted[: len(new)]
            more = (*(bisect_right(new, bound) for bound in self._bounds), len(new))
            counts, seconds = self._counted
            self._counted = [a + b for a, b in zip(counts, more, strict=True)], seconds + sum(new)
            return self._counted


class _Calls(Collector):
    """A histogram as ``prometheus_client``'s own, but quicker, since every call of the store is counted in it. It lacks
    the time at which a series began, and does not serve the multiprocess mode: what it counts is in this process alone.
    """

    def __init__(self, name: str, bounds: t.Sequence[float]) -> None:
        self._name, self._bounds = name, bounds
        self._series: dict[tuple[str, str], _Series] = {}

    def labels(self, verb: str, ended: str) -> _Series:
        return self._series.setdefault((verb, ended), _Series(self._bounds))

    def describe(self) -> list[HistogramMetricFamily]:
        """The histogram without its series, by which a registry knows its name."""
        return [HistogramMetricFamily(self._name, _DESCRIPTION, labels=_LABELS)]

    def collect(self) -> list[HistogramMetricFamily]:
        """The histogram as it is now."""
        (found,) = self.describe()
        names = [floatToGoString(bound) for bound in (*self._bounds, inf)]  # type: ignore[no-untyped-call]
        for labels, series in self._series.copy().items():
            counts, seconds = series.counted()
            found.add_metric(labels, list(zip(names, counts, strict=True)), seconds)
        return [found]


class SessionMetrics:
    """Counts what happens to sessions, and measures the calls of their store::

        sessions = SessionManager(app, on_store_call=SessionMetrics())

    One object may serve several applications; then it counts all of them together.

    :param registry: where the metrics are registered.
    :param namespace: what their names begin with.
    :param buckets: the upper bounds of the histogram's buckets, in seconds.
    :raises ValueError: if there is no bound, or something in the registry has the name of one of these metrics.
    """

    def __init__(
        self,
        *,
        registry: CollectorRegistry = REGISTRY,
        namespace: str = "flask",
        buckets: t.Sequence[float] = BUCKETS,
    ) -> None:
        bounds = sorted({float(bound) for bound in buckets} - {inf})
        if not bounds:
            raise ValueError("buckets: name at least one upper bound, in seconds")
        self._calls: _Calls | Histogram
        if _MULTIPROCESS & os.environ.keys():
            self._calls = Histogram(
                _CALLS, _DESCRIPTION, _LABELS, namespace=namespace, buckets=bounds, registry=registry
            )
        else:
            self._calls = _Calls(_named(namespace, _CALLS), bounds)
            registry.register(self._calls)
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
        self._observers: dict[tuple[str, str], t.Callable[[float], None]] = {}
        self._receivers = Receivers(self._count)

    def __call__(self, call: StoreCall) -> None:
        """Measure one call."""
        try:
            observe = self._observers[call.verb, call.ended]
        except KeyError:
            observe = self._observers[call.verb, call.ended] = self._calls.labels(call.verb, call.ended).observe
        observe(call.seconds)

    def listen_to(self, app: Flask) -> None:
        """Count what happens to the sessions of ``app``. A :class:`~flask_sessionstore.SessionManager` calls this."""
        self._receivers.listen_to(app)

    def _count(self, event: Event, value: str) -> None:
        counter = self._counters[event]
        (counter if event.label is None else counter.labels(value)).inc()


def _named(namespace: str, name: str) -> str:
    return f"{namespace}_{name}" if namespace else name


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
        self._name = _named(namespace, "sessions_living")

    def describe(self) -> list[GaugeMetricFamily]:
        """The gauge without a value: registering must not ask the store, from which workers are yet to be forked."""
        return [GaugeMetricFamily(self._name, DESCRIPTION)]

    def collect(self) -> list[GaugeMetricFamily]:
        """The gauge with the number of living sessions, if the store tells it."""
        return [GaugeMetricFamily(self._name, DESCRIPTION, self._living.now())]
