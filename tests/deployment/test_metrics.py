"""Metrics of several processes: each counts its own, and a page adds them up."""

from __future__ import annotations

import typing as t
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import demo
import pytest
import requests
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector
from web_servers import Gunicorn

VISITS = 60


class Metered(Gunicorn):
    """With metrics in a folder of its own."""

    @property
    def metrics(self) -> Path:
        return self.instance / "metrics"

    def install(self) -> None:
        self.metrics.mkdir()

    def environment(self) -> dict[str, str]:
        return {**super().environment(), demo.METRICS: str(self.metrics)}


@pytest.mark.deployment
def test_what_three_processes_count_adds_up(shared_redis: t.Callable[[str], t.Any]) -> None:
    settings = {
        "store": shared_redis("valkey9").url,
        "prefix": f"{uuid.uuid4()}:",
        "warm": True,
        "max_age": 1,
        "folder": "{folder}",
    }
    with Metered(settings, 3, "--worker-class=gthread", "--threads=4", "--preload") as server:
        url = f"http://127.0.0.1:{server.port}/put/a/1"
        with ThreadPoolExecutor(6) as visitors:
            statuses = set(visitors.map(lambda _: requests.post(url, timeout=60).status_code, range(VISITS)))
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=str(server.metrics))  # type: ignore[no-untyped-call]
        counted = registry.get_sample_value("flask_sessions_created_total")
        calls = registry.get_sample_value("flask_session_store_call_seconds_count", {"verb": "save", "ended": "done"})
        processes = {path.stem for path in server.metrics.glob("counter_*.db")}
    warm = 1  # a session that the first process made before it forked: see demo.warm_up
    assert statuses == {200}
    assert len(processes) > 1
    assert (counted, calls) == (VISITS + warm, VISITS + warm)
