"""Fixtures for the tests in this folder."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import windows


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "sessions"


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """For how long was slept; no time passes."""
    spans: list[float] = []
    monkeypatch.setattr(time, "sleep", spans.append)
    return spans


@pytest.fixture
def on_windows(monkeypatch: pytest.MonkeyPatch) -> windows.WindowsOS:
    """FileSystemStore runs as on Windows."""
    return windows.emulate(monkeypatch)
