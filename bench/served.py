"""Applications for gunicorn: ``gunicorn "bench.served:app('this project, Valkey', 'read', 'redis://127.0.0.1:6379')"``."""

from __future__ import annotations

import tempfile
from pathlib import Path

from flask import Flask

from .apps import Place
from .cases import APPS, VALKEY, prepared_client
from .scenarios import SCENARIOS


def app(subject: str, name: str, url: str) -> Flask:
    """The application of *subject* for the scenario of this *name*."""
    scenario = next(scenario for scenario in SCENARIOS if scenario.name == name)
    site = APPS[subject](scenario, Place(Path(tempfile.gettempdir()), {VALKEY: url}))
    prepared_client(site, scenario)  # the bare request's session is filled, which each worker has for itself
    return site
