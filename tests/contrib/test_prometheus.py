"""Metrics for Prometheus: what is counted, by which labels, and that nobody is named."""

from __future__ import annotations

import gc
import math
import os
import signal
import subprocess
import sys
import typing as t
import weakref
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest
from flask import Flask
from forks import FORKS, Child, Fork
from http_support import Browser, make_app, sessions_of, started, warnings_in
from live import live_app
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from sql_servers import PostgreSQL
from views import clear, purge, read, remove_all, renew, sign_in, write

from flask_sessionstore import (
    ConfigurationError,
    SessionManager,
    StoreUnavailable,
    UnsupportedByStore,
    session,
    signals,
)
from flask_sessionstore.contrib.prometheus import BUCKETS, LivingSessions, SessionMetrics
from flask_sessionstore.interface import StoreSessionInterface
from flask_sessionstore.stores import from_url
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.stores.watched import StoreCall
from flask_sessionstore.testing import FaultyStore

Labels = dict[str, str]


class Metered:
    """An application with metrics of its own."""

    def __init__(self) -> None:
        self.store = FaultyStore(MemoryStore())
        self.app = live_app(self.store)
        self.registry = CollectorRegistry()
        meter(self.app, SessionMetrics(registry=self.registry))
        self.seen: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}

    def now(self) -> dict[str, float]:
        """What was counted since the last time: ``sessions_ended purged``, ``load done``."""
        counts = {}
        for metric in self.registry.collect():
            for sample in metric.samples:
                key = (sample.name, tuple(sample.labels.items()))
                if sample.name.endswith(("_total", "_count")) and (more := sample.value - self.seen.get(key, 0)):
                    words = [sample.name.removeprefix("flask_").removesuffix("_total"), *sample.labels.values()]
                    counts[" ".join(words).removeprefix("session_store_call_seconds_count ")] = more
                self.seen[key] = sample.value
        return counts

    @property
    def text(self) -> str:
        return generate_latest(self.registry).decode()


def meter(app: Flask, metrics: SessionMetrics) -> None:
    t.cast("StoreSessionInterface", app.session_interface).on_store_call = (metrics,)
    metrics.listen_to(app)


@pytest.fixture
def metered() -> Metered:
    return Metered()


def test_a_session_from_its_beginning_to_its_end(metered: Metered) -> None:
    browser = Browser(metered.app)
    browser.does(write)
    assert metered.now() == {"sessions_created": 1, "save done": 1}
    browser.does(read)
    assert metered.now() == {"load done": 1}
    browser.does(lambda: session.update(b=1))
    assert metered.now() == {"load done": 1, "update done": 1}
    browser.does(sign_in)
    assert metered.now() == {"load done": 1, "renew done": 1, "sessions_renewed signed in": 1}
    browser.does(renew)
    assert metered.now()["sessions_renewed renewed"] == 1
    browser.does(clear)
    assert metered.now() == {"load done": 1, "delete done": 1, "sessions_ended cleared": 1}


@pytest.mark.parametrize(
    ("view", "how"),
    [(clear, "cleared"), (purge, "purged"), (remove_all, "emptied"), (lambda: session.pop("_user_id"), "signed out")],
)
def test_ends_are_counted_by_how(view: t.Callable[[], object], how: str, metered: Metered) -> None:
    browser = started(metered.app, **({"_user_id": "ann"} if how == "signed out" else {"a": 1}))
    browser.does(view)
    assert metered.now()[f"sessions_ended {how}"] == 1


def test_revoked_sessions_are_counted(metered: Metered) -> None:
    for _ in range(3):
        started(metered.app, _user_id="ann")
    with metered.app.app_context():
        sessions_of(metered.app).revoke_all("ann")
    counts = metered.now()
    assert counts["sessions_ended revoked"] == 3
    assert counts["end_each done"] == 1


def test_merged_and_dropped_writes_are_counted(metered: Metered) -> None:
    browser = started(metered.app, a=1)
    twin = browser.twin()

    def meanwhile(view: t.Callable[[], object]) -> None:
        write()
        twin.does(view)

    metered.now()
    browser.does(lambda: meanwhile(lambda: session.update(b=1)))
    counts = metered.now()
    assert (counts["sessions_merged"], counts["update conflict"]) == (1, 1)
    browser.does(lambda: (session.update(a=3), twin.does(clear)))
    counts = metered.now()
    assert (counts["session_writes_dropped ended"], counts["update gone"]) == (1, 1)


def test_failures_are_counted_by_how_the_store_was_lost(metered: Metered) -> None:
    browser = started(metered.app, a=1)
    metered.now()
    metered.store.fail()
    browser.does(read)
    assert metered.now() == {"session_store_failures answered": 1, "load unavailable": 1}
    error = StoreUnavailable(lost="timed out")
    signals.store_failed.send(metered.app, error=error)
    signals.store_recovered.send(metered.app)
    assert metered.now() == {"session_store_failures timed out": 1, "session_store_recoveries": 1}


def test_damage_is_counted(metered: Metered) -> None:
    browser = started(metered.app, a=1)
    signals.session_corrupt.send(metered.app, handle="0" * 64, newer=False)
    assert metered.now()["sessions_corrupt false"] == 1
    assert browser.data == {"a": 1}


def test_nobody_is_named(metered: Metered) -> None:
    browser = started(metered.app, _user_id="ann@example.org")
    handle = browser.asks(lambda: session.handle)
    for view in (read, write, renew, clear):
        browser.does(view)
    text = metered.text
    assert "flask_session_store_call_seconds_bucket" in text
    assert not [word for word in (handle, "ann@example.org", str(browser.key)) if word in text]


def test_applications_with_metrics_of_their_own_are_not_mixed() -> None:
    here, there = Metered(), Metered()
    Browser(here.app).does(write)
    assert (here.now()["sessions_created"], there.now()) == (1, {})


def test_applications_may_share_their_metrics() -> None:
    registry = CollectorRegistry()
    metrics = SessionMetrics(registry=registry, namespace="shop")
    for _ in range(2):
        app = live_app(MemoryStore())
        meter(app, metrics)
        Browser(app).does(write)
    assert registry.get_sample_value("shop_sessions_created_total") == 2
    assert registry.get_sample_value("shop_session_store_call_seconds_count", {"verb": "save", "ended": "done"}) == 2


def test_names_and_labels_are_those_that_dashboards_ask_for(metered: Metered) -> None:
    browser = started(metered.app, a=1)
    browser.does(sign_in)
    browser.does(clear)
    signals.session_write_dropped.send(metered.app, handle=None, reason="ended")
    signals.session_corrupt.send(metered.app, handle="0" * 64, newer=True)
    signals.store_failed.send(metered.app, error=StoreUnavailable())
    samples = [sample for metric in metered.registry.collect() for sample in metric.samples]
    labels = {
        sample.name: tuple(sample.labels)
        for sample in samples
        if sample.name.endswith(("_total", "_count")) or "_seconds_" in sample.name
    }
    assert labels == {
        "flask_session_store_call_seconds_bucket": ("verb", "ended", "le"),
        "flask_session_store_call_seconds_count": ("verb", "ended"),
        "flask_session_store_call_seconds_sum": ("verb", "ended"),
        "flask_sessions_created_total": (),
        "flask_sessions_renewed_total": ("reason",),
        "flask_sessions_ended_total": ("how",),
        "flask_sessions_merged_total": (),
        "flask_session_writes_dropped_total": ("reason",),
        "flask_sessions_corrupt_total": ("newer",),
        "flask_session_store_failures_total": ("lost",),
        "flask_session_store_recoveries_total": (),
    }


@pytest.mark.parametrize("several", [False, True])
def test_the_manager_connects_the_metrics_to_its_applications(several: bool) -> None:
    registry = CollectorRegistry()
    metrics = SessionMetrics(registry=registry)
    sessions = SessionManager(on_store_call=[print, metrics] if several else metrics)
    apps = [Flask(name) for name in ("one", "two", "another")]
    for app in apps:
        app.config.update(SECRET_KEY="a secret", SESSION_STORE="memory:")
        (SessionManager() if app.name == "another" else sessions).init_app(app)
        app.add_url_rule("/", view_func=lambda: str(session.setdefault("a", 1)))
        app.test_client().get("/")
    assert registry.get_sample_value("flask_sessions_created_total") == 2
    assert registry.get_sample_value("flask_session_store_call_seconds_count", {"verb": "save", "ended": "done"}) == 2


def test_an_application_that_has_gone_leaves_no_receivers() -> None:
    gc.collect()
    before = len(signals.session_created.receivers)
    metered: Metered | None = Metered()
    assert metered is not None
    Browser(metered.app).does(write)
    assert len(signals.session_created.receivers) == before + 1
    metered = None
    gc.collect()
    assert len(signals.session_created.receivers) == before


# -- the histogram: the package's own in one process, and prometheus_client's in its multiprocess mode ----------------

SECONDS = (0.0, 0.0002, 0.0003, 0.001, 0.7, 2.5, 2.6, 1e9)


@pytest.fixture(params=["one process", "multiprocess mode"])
def mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if request.param == "multiprocess mode":
        monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))


@pytest.mark.usefixtures("mode")
@pytest.mark.parametrize("seconds", [[], *([second] for second in SECONDS), SECONDS * 40], ids=len)
def test_calls_are_counted_in_the_buckets_where_prometheus_client_counts_them(seconds: t.Sequence[float]) -> None:
    registry, other = CollectorRegistry(), CollectorRegistry()
    metrics = SessionMetrics(registry=registry)
    histogram = Histogram("flask_session_store_call_seconds", "", ["verb", "ended"], buckets=BUCKETS, registry=other)
    for number, second in enumerate(seconds):
        labels = ("load", "update")[number % 2], "done"
        metrics(StoreCall(labels[0], second, labels[1]))
        histogram.labels(*labels).observe(second)
    assert samples(registry) == samples(other)
    assert samples(registry) == samples(other), "what was read is still there"


def samples(registry: CollectorRegistry) -> dict[tuple[str, str, str], t.Any]:
    return {
        (sample.name, sample.labels.get("verb", ""), sample.labels.get("le", "")): pytest.approx(sample.value)
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name.startswith("flask_session_store_call") and not sample.name.endswith("_created")
    }


@pytest.mark.usefixtures("mode")
@pytest.mark.parametrize("buckets", [[0.5, 0.1], [0.1, 0.5, math.inf], (0.1, 0.5, 0.5), ("0.1", "0.5")])
def test_buckets_may_be_given_in_any_order_and_with_or_without_the_last(buckets: t.Sequence[float]) -> None:
    registry = CollectorRegistry()
    SessionMetrics(registry=registry, buckets=buckets)(StoreCall("load", 0.3, "done"))
    counts = {bound: value for (name, _, bound), value in samples(registry).items() if name.endswith("_bucket")}
    assert counts == {"0.1": 0, "0.5": 1, "+Inf": 1}


@pytest.mark.usefixtures("mode")
def test_a_name_is_registered_once() -> None:
    registry = CollectorRegistry()
    SessionMetrics(registry=registry)
    with pytest.raises(ValueError, match="flask_session_store_call_seconds"):
        SessionMetrics(registry=registry)


@pytest.mark.usefixtures("mode")
def test_a_namespace_may_be_empty() -> None:
    registry = CollectorRegistry()
    SessionMetrics(registry=registry, namespace="")(StoreCall("load", 0.3, "done"))
    registry.register(LivingSessions(make_app("memory:"), namespace=""))
    names = {sample.name for metric in registry.collect() for sample in metric.samples}
    assert {"session_store_call_seconds_count", "sessions_created_total", "sessions_living"} <= names


class Seconds(float):
    """Seconds that let something else happen once, while they are counted: then they are sorted."""

    meanwhile: t.ClassVar[t.Callable[[], object] | None] = None

    def __lt__(self, other: float) -> bool:
        do, Seconds.meanwhile = Seconds.meanwhile, None
        if do is not None:
            do()
        return float(self) < float(other)


class Loads:
    """Metrics, and how many loads they have counted."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.metrics = SessionMetrics(registry=self.registry)

    def load(self, seconds: float = 0.25) -> None:
        self.metrics(StoreCall("load", Seconds(seconds), "done"))

    def count(self, what: str = "count") -> float | None:
        labels = {"verb": "load", "ended": "done"}
        return self.registry.get_sample_value(f"flask_session_store_call_seconds_{what}", labels)


def test_a_call_that_comes_while_the_others_are_counted_is_counted_after_them() -> None:
    loads = Loads()
    loads.load()
    loads.load()
    Seconds.meanwhile = loads.load
    assert [loads.count(), loads.count()] == [2, 3]


def test_two_who_read_at_once_count_each_call_once() -> None:
    loads = Loads()
    loads.load()
    loads.load()
    with ThreadPoolExecutor(1) as other:
        Seconds.meanwhile = lambda: wait([other.submit(loads.count)], timeout=0.1)  # it waits for this reader
        assert loads.count() == 2
    assert (loads.count(), loads.count("sum")) == (2, 0.5)


@pytest.mark.parametrize("fork", FORKS)
def test_a_child_that_is_made_while_calls_are_counted_counts_too(fork: Fork) -> None:
    loads, children = Loads(), []

    def go_on() -> object:
        signal.alarm(60)  # which ends it, if it waits for the lock that its parent holds
        loads.load()
        return loads.count() is not None

    loads.load()
    loads.load()
    Seconds.meanwhile = lambda: children.append(Child(go_on, fork=fork))
    loads.count()
    assert children[0].answer() == "True"


def test_calls_of_what_interrupts_the_counting_are_counted_too() -> None:
    """As those of a signal's handler."""
    loads = Loads()

    def handle() -> None:
        for _ in range(250):
            loads.load()

    def interrupted() -> object:
        signal.alarm(60)  # which ends this, if the calls wait for whom they interrupt
        loads.load()
        loads.load()
        Seconds.meanwhile = handle
        return loads.count(), loads.count()

    assert Child(interrupted).answer() == "(2, 252)"


def test_what_waits_to_be_counted_is_never_much() -> None:
    loads, told = Loads(), list[weakref.ref[Seconds]]()

    def load() -> None:
        seconds = Seconds(0.25)
        told.append(weakref.ref(seconds))
        loads.metrics(StoreCall("load", seconds, "done"))

    for _ in range(2_000):
        load()
    assert sum(one() is not None for one in told) < 200
    assert loads.count() == 2_000


@pytest.mark.parametrize("buckets", [[], [math.inf]])
@pytest.mark.usefixtures("mode")
def test_no_bucket_is_an_error(buckets: list[float]) -> None:
    with pytest.raises(ValueError, match="at least one"):
        SessionMetrics(registry=CollectorRegistry(), buckets=buckets)


SHARED = """
from flask import Flask
from flask_sessionstore import SessionManager, session
from flask_sessionstore.contrib.prometheus import SessionMetrics
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

app = Flask("shared")
app.config.update(SECRET_KEY="a secret", SESSION_STORE="memory:")
SessionManager(app, on_store_call=SessionMetrics())
app.add_url_rule("/", view_func=lambda: str(session.setdefault("a", 1)))
app.test_client().get("/")
shared = CollectorRegistry()
MultiProcessCollector(shared)
print(shared.get_sample_value("flask_session_store_call_seconds_count", {"verb": "save", "ended": "done"}))
print(shared.get_sample_value("flask_sessions_created_total"))
"""


@pytest.mark.parametrize("variable", ["PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"])
def test_in_the_multiprocess_mode_every_call_is_in_the_shared_files_at_once(variable: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SHARED],
        env={**os.environ, variable: str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["1.0", "1.0"]


# -- living sessions -------------------------------------------------------------------------------------------------


@pytest.fixture
def counted(metered: Metered) -> Metered:
    """An application that has a gauge of its living sessions beside its other metrics."""
    metered.registry.register(LivingSessions(metered.app))
    return metered


def living(registry: CollectorRegistry) -> float | None:
    return registry.get_sample_value("flask_sessions_living")


def test_living_sessions_are_those_that_have_not_ended(counted: Metered) -> None:
    assert living(counted.registry) == 0
    first, second, _ = [started(counted.app, a=1) for _ in range(3)]
    assert living(counted.registry) == 3
    first.does(clear)
    second.does(renew)
    assert living(counted.registry) == 2


def test_the_store_is_asked_when_the_metrics_are_read_and_at_no_other_time(counted: Metered) -> None:
    started(counted.app, a=1).does(read)
    assert "count" not in counted.store.calls
    assert "\nflask_sessions_living 1.0\n" in counted.text
    assert counted.store.calls.count("count") == 1


def test_a_store_that_cannot_tell_leaves_the_gauge_out_and_the_other_metrics_in(
    counted: Metered, caplog: pytest.LogCaptureFixture
) -> None:
    started(counted.app, a=1)
    counted.store.fail("count")
    text = counted.text
    assert "\nflask_sessions_created_total 1.0\n" in text
    assert "\nflask_sessions_living" not in text
    assert warnings_in(caplog) == ["living sessions could not be counted: StoreUnavailable"]
    assert living(counted.registry) == 1


@pytest.mark.server
def test_a_server_that_is_down_leaves_the_gauge_out_until_it_is_back() -> None:
    registry = CollectorRegistry()
    with PostgreSQL() as server:
        app = make_app(server.url)
        app.test_cli_runner().invoke(args=["sessions", "create-schema"])
        registry.register(LivingSessions(app))
        started(app, a=1)
        assert living(registry) == 1
        server.stop()
        assert living(registry) is None
        server.start()
        assert living(registry) == 1


def test_two_applications_have_two_names() -> None:
    registry = CollectorRegistry()
    for name, sessions in {"shop": 1, "blog": 2}.items():
        app = make_app("memory:")
        registry.register(LivingSessions(app, namespace=name))
        for _ in range(sessions):
            started(app, a=1)
    names = ("shop_sessions_living", "blog_sessions_living")
    assert [registry.get_sample_value(name) for name in names] == [1, 2]


def test_a_store_that_would_have_to_read_all_sessions_is_refused(tmp_path: Path) -> None:
    app = make_app(from_url(f"file://{tmp_path}"))
    with pytest.raises(UnsupportedByStore, match="FileSystemStore cannot count"):
        LivingSessions(app)
    with pytest.raises(ConfigurationError, match="has no SessionManager"):
        LivingSessions(Flask(__name__))
