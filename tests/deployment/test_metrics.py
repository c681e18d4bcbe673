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


@pytest.mark.deployment
def test_whichever_of_three_processes_is_asked_tells_how_many_sessions_live() -> None:
    """It is the number that the store has, and not a sum. (A session that was made for a start has ended again.)"""
    settings = {
        "store": "sqlite:///{folder}/sessions.db",
        "prefix": "session:",
        "warm": True,
        "max_age": 1,
        "folder": "{folder}",
    }
    with Metered(settings, 3, "--preload") as server:
        url = f"http://127.0.0.1:{server.port}"
        for _ in range(VISITS):
            assert requests.post(f"{url}/put/a/1", timeout=60).status_code == 200
        with ThreadPoolExecutor(6) as readers:
            pages = list(readers.map(lambda _: requests.get(f"{url}/metrics", timeout=60), range(VISITS)))
    living = {line for page in pages for line in page.text.splitlines() if line.startswith("flask_sessions_living")}
    assert len({page.headers["X-Process"] for page in pages}) > 1
    assert living == {f"flask_sessions_living {VISITS}.0"}
    assert all(f"flask_sessions_created_total {VISITS + 1}.0" in page.text for page in pages)
