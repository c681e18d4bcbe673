"""SessionManager: the extension object."""

from __future__ import annotations

import typing as t
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from flask import Flask

from . import config, stores
from .errors import ConfigurationError
from .interface import ImportSession, StoreSessionInterface
from .stores.base import SessionStore
from .stores.caching import CachingStore

EXTENSION = "sessionstore"

Tier = t.Union[SessionStore, str]  # noqa: UP007  - evaluated at run time
StoreSetting = t.Union[Tier, tuple[Tier, Tier], t.Callable[[Flask], t.Any]]  # noqa: UP007


class SessionManager:
    """Gives Flask applications server-side sessions.

    ::

        sessions = SessionManager()

        def create_app():
            app = Flask(__name__)
            app.config["SESSION_STORE"] = "redis://localhost:6379/0"
            sessions.init_app(app)
            return app

    :param app: an application to set up at once.
    :param store: where sessions are kept, for applications whose SESSION_STORE is not set: a store, a URL, a
        pair (cache, store) of these, or a function of the application that returns one. Default: files in the
        instance folder.
    :param import_session: a function of the application and the request that returns the data of a session kept
        elsewhere, or None; called where the browser has no session of ours, to move from another kind of session
        without logging anybody out.
    """

    #: What becomes the application's ``session_interface``: a subclass may stand here.
    interface_class: type[StoreSessionInterface] = StoreSessionInterface

    def __init__(
        self,
        app: Flask | None = None,
        *,
        store: StoreSetting | None = None,
        import_session: ImportSession | None = None,
    ) -> None:
        self._store = store
        self._import_session = import_session
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask, *, store: StoreSetting | None = None) -> None:
        """Set up ``app``: check its settings, make its store, set its ``session_interface``. Connects to nothing.

        :param store: as for the class, for this application alone.
        :raises ConfigurationError: if a setting cannot work, or the application is set up already.
        """
        if EXTENSION in app.extensions:
            raise ConfigurationError("this application has a SessionManager already: call init_app once")
        settings = config.read_settings(app, store if store is not None else self._store)
        made = _make_store(app, settings.store, settings.store_options)
        app.session_interface = self.interface_class(made, settings.policy, self._import_session)
        app.extensions[EXTENSION] = self


def _make_store(app: Flask, setting: t.Any, options: dict[str, t.Any]) -> SessionStore:
    """The store that a setting means."""
    if callable(setting) and not isinstance(setting, (SessionStore, type)):
        with app.app_context():
            setting = setting(app)
    if isinstance(setting, SessionStore):
        return setting
    if isinstance(setting, str):
        return stores.from_url(_in_instance_folder(app, setting), **options)
    if isinstance(setting, (tuple, list)) and len(setting) == 2:
        cache, store = setting
        return _make_pair(app, cache, store, options)
    raise ConfigurationError(
        f"{config.SESSION_STORE} takes a URL, a SessionStore, a pair (cache, store) of these, or a function of the"
        f" application; it is of type {type(setting).__name__}",
        key=config.SESSION_STORE,
    )


def _make_pair(app: Flask, cache: t.Any, store: t.Any, options: dict[str, t.Any]) -> SessionStore:
    """A cache in front of a store. The options are the store's, but for ``max_age``."""
    own = {"max_age": options["max_age"]} if "max_age" in options else {}
    rest = {name: value for name, value in options.items() if name not in own}
    # A name of its own, for both may be in one engine.
    tiers = _make_store(app, cache, {"prefix": options["prefix"] + "cache:"}), _make_store(app, store, rest)
    return CachingStore(*t.cast("t.Any", tiers), **own)


def _in_instance_folder(app: Flask, url: str) -> str:
    """A file URL whose path is relative means a folder below the instance folder."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ConfigurationError(f"{config.SESSION_STORE} is no URL", key=config.SESSION_STORE) from error
    if parts.scheme != "file" or parts.netloc or parts.path.startswith("/") or not parts.path:
        return url
    return "file://" + quote((Path(app.instance_path) / unquote(parts.path)).as_posix())
