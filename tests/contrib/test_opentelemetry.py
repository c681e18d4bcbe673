"""Traces and metrics for OpenTelemetry: a span for each call within a trace, and counters of what happens."""

from __future__ import annotations

import typing as t

import pytest
from flask import Flask
from http_support import Browser, started
from live import live_app
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from views import clear, read, renew, sign_in, write

from flask_sessionstore import session
from flask_sessionstore.contrib.opentelemetry import SessionTelemetry, observe_living_sessions
from flask_sessionstore.interface import StoreSessionInterface
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import FaultyStore


class Traced:
    """An application with an SDK of its own, whose requests are traced."""

    def __init__(self) -> None:
        self.store = FaultyStore(MemoryStore())
        self.app: Flask = live_app(self.store)
        self.exporter, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = provider.get_tracer("tests")
        meters = MeterProvider([self.reader])
        telemetry = SessionTelemetry(tracer_provider=provider, meter_provider=meters)
        observe_living_sessions(self.app, meter_provider=meters)
        t.cast("StoreSessionInterface", self.app.session_interface).on_store_call = (telemetry,)
        telemetry.listen_to(self.app)

    def does(self, browser: Browser, view: t.Callable[[], object]) -> tuple[ReadableSpan, list[ReadableSpan]]:
        """The span of a request, and those of the calls of the store within it."""
        self.exporter.clear()
        with self.tracer.start_as_current_span("GET /"):
            browser.does(view)
        *calls, request = self.exporter.get_finished_spans()
        return request, calls

    def points(self) -> dict[str, dict[tuple[str, ...], float]]:
        """The metrics: by name and the values of their attributes, the sum or the count."""
        data = self.reader.get_metrics_data()
        assert data is not None
        return {
            metric.name: {
                tuple(map(str, (point.attributes or {}).values())): t.cast(
                    "t.Any", getattr(point, "count", None) or getattr(point, "value", None)
                )
                for point in metric.data.data_points
            }
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@pytest.fixture
def traced() -> Traced:
    return Traced()


def test_each_call_within_a_trace_is_a_span_of_the_request(traced: Traced) -> None:
    browser = started(traced.app, a=1)
    request, calls = traced.does(browser, write)
    assert [span.name for span in calls] == ["session load", "session update"]
    for span in calls:
        assert span.parent is not None
        assert request.context is not None
        assert span.parent.span_id == request.context.span_id
        assert span.kind is SpanKind.CLIENT
        assert span.status.status_code is StatusCode.UNSET
        assert span.start_time is not None
        assert span.end_time is not None
        assert (request.start_time or 0) <= span.end_time <= (request.end_time or 0)
        assert span.start_time <= span.end_time
    assert dict(calls[1].attributes or {}) == {"session.store.verb": "update", "session.store.ended": "done"}


def test_a_request_without_a_trace_has_no_spans(traced: Traced) -> None:
    started(traced.app, a=1).does(write)
    assert traced.exporter.get_finished_spans() == ()


def test_a_call_that_fails_is_a_span_with_an_error(traced: Traced) -> None:
    browser = started(traced.app, a=1)
    traced.store.fail()
    request, (call,) = traced.does(browser, read)
    assert call.status.status_code is StatusCode.ERROR
    assert (call.attributes or {})["session.store.ended"] == "unavailable"
    assert [event.name for event in request.events] == ["store-failed"]


def test_a_conflict_is_no_error(traced: Traced) -> None:
    browser = started(traced.app, a=1)
    twin = browser.twin()

    def view() -> None:
        write()
        twin.does(lambda: session.update(b=1))

    request, calls = traced.does(browser, view)
    assert [(span.attributes or {})["session.store.ended"] for span in calls if span.name == "session update"] == [
        "done",
        "conflict",
        "done",
    ]
    assert {span.status.status_code for span in calls} == {StatusCode.UNSET}
    assert [event.name for event in request.events] == ["session-merged"]


def test_what_happens_to_sessions_is_counted_and_noted_in_the_trace(traced: Traced) -> None:
    browser = Browser(traced.app)
    events = []
    for view in (write, sign_in, renew, clear):
        request, _ = traced.does(browser, view)
        events += [(event.name, dict(event.attributes or {})) for event in request.events]
    assert events == [
        ("session-created", {}),
        ("session-renewed", {"session.reason": "signed in"}),
        ("session-renewed", {"session.reason": "renewed"}),
        ("session-ended", {"session.how": "cleared"}),
    ]
    points = traced.points()
    assert points["sessions.created"] == {(): 1}
    assert points["sessions.renewed"] == {("signed in",): 1, ("renewed",): 1}
    assert points["sessions.ended"] == {("cleared",): 1}
    assert points["session.store.call.duration"][("load", "done")] == 3


def test_times_are_in_seconds_and_the_rest_is_numbers(traced: Traced) -> None:
    started(traced.app, a=1)
    data = traced.reader.get_metrics_data()
    assert data is not None
    metrics = [one for resource in data.resource_metrics for scope in resource.scope_metrics for one in scope.metrics]
    units = {metric.name: metric.unit for metric in metrics}
    assert units == {"session.store.call.duration": "s", "sessions.created": "1", "sessions.living": "1"}


def test_living_sessions_are_observed_when_the_metrics_are_read_unless_the_store_fails(traced: Traced) -> None:
    browser = started(traced.app, a=1)
    started(traced.app, a=1)
    assert "count" not in traced.store.calls
    assert traced.points()["sessions.living"] == {(): 2}
    browser.does(clear)
    traced.store.fail("count")
    points = traced.points()
    assert points["sessions.created"] == {(): 2}
    assert "sessions.living" not in points
    assert traced.points()["sessions.living"] == {(): 1}


def test_nobody_is_named(traced: Traced) -> None:
    browser = started(traced.app, _user_id="ann@example.org")
    handle = browser.asks(lambda: session.handle)
    spans = [span for view in (read, write, renew, clear) for span in traced.does(browser, view)[1]]
    text = "".join(span.to_json() for span in spans) + str(traced.points())
    assert not [word for word in (handle, "ann@example.org", str(browser.key)) if word in text]
