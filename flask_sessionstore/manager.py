"""SessionManager: the extension object."""

from __future__ import annotations

import contextlib
import logging
import typing as t
from uuid import UUID

import flask
from flask import Flask, has_request_context

from . import cli, owners, signals
from .current import app_in_use, interface_in_use, server_store_in_use, store_in_use
from .errors import ConfigurationError, SessionGone, StoreUnavailable, UnsupportedByStore
from .interface import ImportSession, StoreSessionInterface
from .key import is_handle
from .lifecycle import Lifecycle
from .making import make_store
from .moving_in import bar_owner
from .record import SessionInfo
from .sessions import Session, source_of
from .settings import read_settings
from .signins import owner_of
from .stores.base import OwnerIndex, ServerSideStore, SessionStore, Sweeps

logger = logging.getLogger("flask_sessionstore")

EXTENSION = "sessionstore"

Owner = t.Union[str, int, UUID]  # noqa: UP007  - evaluated at run time
# Not None: an application that passes the id of a visitor who is not signed in must not have asked for anybody's.
_ANYBODYS: t.Any = object()

Tier = t.Union[SessionStore, str]  # noqa: UP007  - evaluated at run time
StoreSetting = t.Union[Tier, tuple[Tier, Tier], t.Callable[[Flask], t.Any]]  # noqa: UP007


@contextlib.contextmanager
def _failures_are_logged() -> t.Iterator[None]:
    """In a request, where Flask answers a failure and nobody says why. Elsewhere it is the caller's to tell."""
    try:
        yield
    except StoreUnavailable as error:
        if has_request_context():
            logger.error("%s", error, exc_info=error.__cause__)
        raise


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
    :param import_session: what brings over the sessions of another kind, so that nobody is logged out: an importer
        (of ``flask_sessionstore.migrate``), or a function of the application and the request that returns the data
        of a session kept elsewhere, or None; or a list of these, of which the first that knows something counts. What a
        function returns starts a new session wherever the browser has none of ours; nothing is noted of it, so what it
        reads may be imported again after a log-out.
    """

    #: What becomes the application's ``session_interface``: a subclass may stand here.
    interface_class: type[StoreSessionInterface] = StoreSessionInterface
    #: Whether Flask-Session's settings are read elsewhere, and are no error.
    reads_flask_session: t.ClassVar[bool] = False

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
        settings = read_settings(app, store if store is not None else self._store, foreign=self.reads_flask_session)
        made = make_store(app, settings.store, {"prefix": settings.prefix, **settings.store_options})
        if settings.policy.max_per_owner is not None and made.ability(OwnerIndex) is None:
            raise ConfigurationError(
                f"SESSION_MAX_PER_OWNER needs a store that can list an owner's sessions; {type(made).__name__} cannot",
                key="SESSION_MAX_PER_OWNER",
            )
        if settings.seal:
            _seal(made, settings.seal)
        interface = self.interface_class(made, settings.policy, self._import_session)
        if interface.importers and not isinstance(made, ServerSideStore):
            raise ConfigurationError(
                f"an importer needs a store on the server's side, for it has to remember what it imported:"
                f" {type(made).__name__} cannot. A function as import_session works with every store",
                key="import_session",
            )
        app.session_interface = interface
        app.extensions[EXTENSION] = self
        _name_who_takes_over(app)
        if cli.sessions.name not in app.cli.commands:  # else it has a command of its own by that name
            app.cli.add_command(cli.sessions)

    # -- sessions other than the request's own: with an application context, as in a request or a command ------------

    @_failures_are_logged()
    def find(self, owner: Owner) -> list[SessionInfo]:
        """The living sessions of ``owner``, the one last extended first. ``current`` marks that of this request.

        :param owner: a value as the session keeps it under SESSION_OWNER_KEY; compared as text.
        :raises UnsupportedByStore: if the store cannot tell whose its sessions are.
        :raises StoreUnavailable:
        """
        found = owners.find(store_in_use(), _text_of(owner))
        session = _current()
        current = None if session is None else session.handle
        return [SessionInfo.of(handle, record, current=handle == current) for handle, record in found.items()]

    @_failures_are_logged()
    def revoke(self, handle: str, *, owner: Owner | None = _ANYBODYS) -> bool:
        """End a session by its handle, and what it goes on as if it was renewed.

        If it is the session of this request, the request goes on with a new one.

        :param owner: only if it is this owner's: what a page passes that lets visitors end sessions of their own. None,
            an owner who is not there, has none.
        :return: whether there was one to end. A handle that is none ends nothing.
        :raises UnsupportedByStore: if the store keeps nothing on the server's side.
        :raises StoreUnavailable:
        """
        store = server_store_in_use()
        if owner is None or not is_handle(handle):
            return False
        session = _current()
        current = None if session is None else session.handle
        ended = store.end_found(handle, owner=None if owner is _ANYBODYS else _text_of(owner))
        if ended is None:
            return False
        _announce(ended)
        if session is not None and current in (handle, ended):
            _lifecycle_of(session).leave(by_itself=True)
        return True

    @_failures_are_logged()
    def revoke_all(self, owner: Owner, *, keep_current: bool = False) -> int:
        """End every session of ``owner``, those that are just being made included, and return how many there were.

        Not covered: a sign-in whose password was checked before this, and that is stored after it.

        :param keep_current: but not that of this request.
        :raises UnsupportedByStore: if the store cannot tell whose its sessions are.
        :raises StoreUnavailable: some, or all but one, may have ended: call it again.
        """
        text, session = _text_of(owner), _current()
        current = None if session is None else session.handle
        ended: set[str | None] = set()

        def note(handle: str) -> None:
            ended.add(handle)
            _announce(handle)

        interface, store = interface_in_use(), store_in_use()
        if interface.importers:  # first: who is being imported looks for it once the session is there
            bar_owner(t.cast("ServerSideStore", store), text, interface.policy_of(app_in_use()).lifetime)
        count = owners.end_all(store, text, keep=current if keep_current else None, ended=note)
        if session is not None and current is not None and not keep_current:
            lifecycle = _lifecycle_of(session)
            if current in ended or lifecycle.draft.owner_before == text:
                lifecycle.leave(by_itself=current in ended)
        return count

    @_failures_are_logged()
    def delete_expired(self, limit: int | None = None) -> int:
        """Remove sessions that have expired, from stores whose engine does not do so by itself, and what is left of
        ended ones in the lists of their owners. Safe beside running applications, on many machines at once.

        :param limit: how many at most; None: all.
        :return: how many sessions were removed; where the engine removes these itself, how many entries of lists.
        :raises UnsupportedByStore: if there is never anything to remove.
        :raises StoreUnavailable:
        """
        store = store_in_use()
        sweeps, index = store.ability(Sweeps), store.ability(OwnerIndex)
        if sweeps is None and index is None:
            raise UnsupportedByStore(f"{type(store).__name__} removes expired sessions by itself")
        removed = None if sweeps is None else sweeps.delete_expired(limit)
        pruned = 0 if index is None else index.prune(limit)
        return pruned if removed is None else removed

    @contextlib.contextmanager
    def open(self, handle: str) -> t.Iterator[Session]:
        """The session under ``handle``, for jobs, sockets and tests::

            with sessions.open(handle) as session:
                session["report"] = "ready"

        What was changed is stored when the block ends, merged with what requests wrote meanwhile; if the block raises,
        nothing is. Reading extends nothing. What needs a new key (a renewal, another owner, clearing and writing) is
        the browser's: it raises, and nothing is stored.

        :raises SessionGone: if there is no such session, or it ended while the block ran.
        :raises SessionError: if what was changed needs a new key.
        :raises UnsupportedByStore: if the store keeps nothing on the server's side.
        :raises StoreUnavailable:
        """
        server_store_in_use()
        if not is_handle(handle):
            raise SessionGone("no session has such a handle")
        session = interface_in_use().open_by_handle(app_in_use(), handle)
        lifecycle = _lifecycle_of(session)
        if session.handle is None:
            raise SessionGone("there is no session under this handle", kind=lifecycle.absence)
        yield session
        lifecycle.commit()
        if lifecycle.dropped is not None:
            raise SessionGone("the session ended before what was changed could be stored", kind=lifecycle.absence)


def _name_who_takes_over(app: Flask) -> None:
    """At the first request, log whether another extension has set the session interface since."""

    def look(sender: Flask, **_: object) -> None:
        flask.request_started.disconnect(look)
        if isinstance(sender.session_interface, StoreSessionInterface):
            return
        other = type(sender.session_interface)
        logger.error(
            "after SessionManager, something else has set app.session_interface: %s.%s keeps the sessions now, and"
            " flask_sessionstore none. Whoever is set up last counts: if an extension calls flask_session.Session(app)"
            " by itself, call init_app of SessionManager after that extension's",
            other.__module__,
            other.__qualname__,
        )

    flask.request_started.connect(look, app, weak=False)


def _current() -> Session | None:
    """The session of this request, if it is one of this store's."""
    if not has_request_context():
        return None
    session = flask.session._get_current_object()  # type: ignore[attr-defined]
    if isinstance(session, Session) and getattr(source_of(session), "store", None) is store_in_use():
        return session
    return None


def _lifecycle_of(session: Session) -> Lifecycle:
    return t.cast("Lifecycle", source_of(session))


def _announce(handle: str) -> None:
    signals.announce(signals.session_ended, app_in_use(), handle=handle, how="revoked")


def _text_of(owner: Owner) -> str:
    """An owner as text.

    :raises SessionInsertError: if it is none that a session could have.
    """
    text = owner_of(owner)
    if text is None:
        raise ValueError("an owner is a str, an int or a UUID, not None")
    return text


def _seal(store: SessionStore, seal: bool | t.Literal["required"]) -> None:
    if not isinstance(store, ServerSideStore):
        raise ConfigurationError(
            f"SESSION_SEAL is for stores on the server's side; for {type(store).__name__} there is"
            f' SESSION_COOKIE_CONTENT_SECURITY = "private"',
            key="SESSION_SEAL",
        )
    # Applications may share a store object: none of them weakens what another has asked for.
    store.seal = "required" if "required" in (seal, store.seal) else seal
