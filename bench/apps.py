"""The applications that are compared: each function makes the application of one subject for one scenario."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field
from pathlib import Path

from flask import Flask
from flask.sessions import SessionInterface, SessionMixin

from .scenarios import Scenario, build_app

if t.TYPE_CHECKING:
    from flask_sessionstore.stores import SessionStore


class Skip(Exception):
    """Why a subject cannot run a scenario here."""


@dataclass(frozen=True)
class Place:
    """Where sessions are kept: a folder for this run alone, and the servers that run, by their URLs."""

    folder: Path
    urls: t.Mapping[str, str] = field(default_factory=dict)

    def redis_url(self, server: str, scenario: Scenario) -> str:
        """New sessions go to a separate database, which can be emptied at any time."""
        return f"{self.url_of(server)}/{0 if scenario.seed else 1}"

    def url_of(self, server: str) -> str:
        if server not in self.urls:
            raise Skip(f"{server} does not run here")
        return self.urls[server]

    def folder_of(self, subject: str, scenario: Scenario) -> Path:
        folder = self.folder / f"{subject} {scenario.name}".replace(" ", "-")
        folder.mkdir(exist_ok=True)
        return folder


class FreeSession(dict[str, t.Any], SessionMixin):
    """A session that is not kept."""


class FreeInterface(SessionInterface):
    """Hands the same session to every request and saves nothing."""

    def __init__(self) -> None:
        self.session = FreeSession()

    def open_session(self, app: Flask, request: object) -> FreeSession:
        return self.session

    def save_session(self, app: Flask, session: object, response: object) -> None:
        pass


def bare(scenario: Scenario, place: Place) -> Flask:
    app = build_app(scenario, {})
    app.session_interface = FreeInterface()
    return app


def flask_cookie(scenario: Scenario, place: Place) -> Flask:
    refuse_large(scenario)
    return build_app(scenario, {})


def flask_session(
    config: t.Mapping[str, t.Any], scenario: Scenario, set_up: t.Callable[[Flask], None] | None = None
) -> Flask:
    """*set_up* is for an extension that must be set up first."""
    from flask_session import Session

    app = build_app(scenario, config)
    if set_up:
        set_up(app)
    Session(app)
    return app


def flask_session_redis(server: str, scenario: Scenario, place: Place) -> Flask:
    from redis import Redis

    client = Redis.from_url(place.redis_url(server, scenario))
    return flask_session({"SESSION_TYPE": "redis", "SESSION_REDIS": client}, scenario)


def flask_session_files(scenario: Scenario, place: Place) -> Flask:
    from cachelib import FileSystemCache

    cache = FileSystemCache(str(place.folder_of("theirs", scenario)), threshold=0)
    return flask_session({"SESSION_TYPE": "cachelib", "SESSION_CACHELIB": cache}, scenario)


def ours(store: str | SessionStore, scenario: Scenario, **config: t.Any) -> Flask:
    from flask_sessionstore import SessionManager

    app = build_app(scenario, {"SESSION_STORE": store, **config})
    SessionManager(app)
    return app


def ours_cookie(scenario: Scenario, place: Place) -> Flask:
    refuse_large(scenario)
    return ours("cookie:", scenario)


def ours_private_cookie(scenario: Scenario, place: Place) -> Flask:
    refuse_large(scenario)
    return ours("cookie:", scenario, SESSION_COOKIE_CONTENT_SECURITY="private")


def ours_memory(scenario: Scenario, place: Place) -> Flask:
    return ours("memory:", scenario)


def ours_sealed_memory(scenario: Scenario, place: Place) -> Flask:
    return ours("memory:", scenario, SESSION_SEAL=True)


def ours_files(scenario: Scenario, place: Place) -> Flask:
    return ours(place.folder_of("ours", scenario).as_uri(), scenario)


def ours_redis(server: str, scenario: Scenario, place: Place) -> Flask:
    return ours(place.redis_url(server, scenario), scenario)


def ours_metered(server: str, scenario: Scenario, place: Place) -> Flask:
    from prometheus_client import CollectorRegistry

    from flask_sessionstore import SessionManager
    from flask_sessionstore.contrib.prometheus import SessionMetrics

    app = build_app(scenario, {"SESSION_STORE": place.redis_url(server, scenario)})
    SessionManager(app, on_store_call=SessionMetrics(registry=CollectorRegistry()))
    return app


def refuse_large(scenario: Scenario) -> None:
    if scenario.large:
        raise Skip("50 KB do not fit into a cookie")
