"""The current application's session interface, and the store behind it. Needs an application context."""

from __future__ import annotations

from flask import Flask, current_app

from .errors import ConfigurationError, UnsupportedByStore
from .interface import StoreSessionInterface
from .stores.base import ServerSideStore, SessionStore


def app_in_use() -> Flask:
    """The application object itself, not the proxy ``current_app``."""
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    return app


def interface_in_use() -> StoreSessionInterface:
    """The interface that a SessionManager has given the application.

    :raises ConfigurationError: if the application has no SessionManager.
    """
    interface = current_app.session_interface
    if not isinstance(interface, StoreSessionInterface):
        raise ConfigurationError("this application has no SessionManager: call init_app with it first")
    return interface


def store_in_use() -> SessionStore:
    """The application's store.

    :raises ConfigurationError: if the application has no SessionManager.
    """
    return interface_in_use().store


def asked_store_in_use() -> SessionStore:
    """The application's store as its requests ask it, so that their calls are told to ``on_store_call``.

    :raises ConfigurationError: if the application has no SessionManager.
    """
    return interface_in_use().asked


def server_store_in_use() -> ServerSideStore:
    """The application's store, if it keeps sessions on the server's side.

    :raises UnsupportedByStore: if the store keeps nothing on the server's side.
    :raises ConfigurationError: if the application has no SessionManager.
    """
    store = store_in_use()
    if not isinstance(store, ServerSideStore):
        raise UnsupportedByStore(f"{type(store).__name__} keeps nothing that the server could find, open or end")
    return store
