"""Debian's Chromium, for tests that need a real browser; Playwright only drives it."""

from __future__ import annotations

import contextlib
import typing as t

import servers
from playwright.sync_api import Browser, expect, sync_playwright

FLAGS = [
    "--headless",
    "--no-sandbox",  # which root cannot have
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP *.example.test 127.0.0.1",
]
TIME_LIMIT = 30_000  # milliseconds, for a machine that has much else to do


@contextlib.contextmanager
def launched() -> t.Iterator[Browser]:
    """A browser, which ends with the block."""
    chromium = servers.program("chromium")
    expect.set_options(timeout=TIME_LIMIT)
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=chromium, args=FLAGS)
