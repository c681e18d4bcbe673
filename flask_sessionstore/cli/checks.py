"""The settings in force, and their risks: for ``flask sessions check``."""

from __future__ import annotations

import itertools
import typing as t

from flask import Flask

from .. import settings
from ..interface import StoreSessionInterface
from ..stores.base import SessionStore
from . import checked_settings, checked_store
from .checked_settings import cookie_of
from .findings import SEVERITIES, Finding, Severity

__all__ = ["SEVERITIES", "Finding", "Severity", "findings_of", "settings_of"]


def settings_of(app: Flask, interface: StoreSessionInterface) -> dict[str, t.Any]:
    """The settings in force, by name, without secrets."""
    store, policy = interface.store, interface.policy_of(app)
    return {
        "SESSION_STORE": _name_of(store),
        "SESSION_KEY_PREFIX": getattr(store, "prefix", None),
        **{f"SESSION_COOKIE_{name.upper()}": value for name, value in cookie_of(app, interface)._asdict().items()},
        "SESSION_COOKIE_CONTENT_SECURITY": app.config.get("SESSION_COOKIE_CONTENT_SECURITY", "signed"),
        "SESSION_SEAL": getattr(store, "seal", False),
        "PERMANENT_SESSION_LIFETIME": policy.lifetime,
        "SESSION_REFRESH_EACH_REQUEST": policy.refresh,
        **{s.name: getattr(policy, s.field) for s in settings.SETTINGS if s.field in policy.__struct_fields__},
    }


def findings_of(app: Flask, interface: StoreSessionInterface) -> list[Finding]:
    """What is wrong or risky, the worst first.

    Asks the store. If the store has sessions, leaves a note there about this application.
    """
    store, policy = interface.store, interface.policy_of(app)
    of_store = checked_store.of_store(app, store)
    works = all(finding.severity != "error" for finding in of_store)
    found = itertools.chain(
        checked_settings.of_names(app),
        checked_settings.of_secrets(app),
        checked_settings.of_cookie(cookie_of(app, interface)),
        checked_settings.of_workers(store),
        of_store,
        checked_settings.of_importers(interface),
        checked_store.of_sessions(app, store, policy) if works else (),
    )
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity), reverse=True)


def _name_of(store: SessionStore) -> str:
    tiers = [_name_of(tier) for tier in (getattr(store, "cache", None), getattr(store, "store", None)) if tier]
    return type(store).__name__ + (f"({', '.join(tiers)})" if tiers else "")
