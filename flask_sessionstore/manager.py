"""SessionManager: the extension object."""

from __future__ import annotations

import contextlib
import logging
import time
import typing as t
from uuid import UUID

import flask
from flask import Flask, has_request_context

from . import cli, owners, signals
from .current import app_in_use, asked_store_in_use, interface_in_use, server_store_in_use, store_in_use
from .errors import ConfigurationError, SessionGone, StoreUnavailable, UnsupportedByStore
from .failures import request_at_hand, slow_call_log
from .interface import ImportSession, StoreSessionInterface
from .key import is_handle
from .lifecycle import Lifecycle
from .making import make_store
from .moving_in import bar_owner
from .record import SessionInfo
from .sessions import Session, source_of
from .settings import Settings, read_settings
from .signins import owner_of
from .stores.base import OwnerIndex, ServerSideStore, SessionStore, Sweeps
from .stores.contact import urgently
from .unavailable import answer_as_in_views

if t.TYPE_CHECKING:
    from .stores.watched import OnStoreCall

logger = logging.getLogger("flask_sessionstore")

EXTENSION = "sessionstore"

Owner = t.Union[str, int, UUID]  # noqa: UP007  - evaluated at run time
# "Whoever the owner is". None cannot mean that: an application that passes the id of a visitor who is not signed in
# passes None, and must not end anybody's session.
_ANY_OWNER: t.Any = object()

Tier = t.Union[SessionStore, str]  # noqa: UP007  - evaluated at run time
StoreSetting = t.Union[Tier, tuple[Tier, Tier], t.Callable[[Flask], t.Any]]  # noqa: UP007


@t.runtime_checkable
class _Listener(t.Protocol):
    """What is told about the calls of an application's store, and wants to hear the application's signals too."""

    def listen_to(self, app: Flask) -> None: ...


@contextlib.contextmanager
def _failures_are_logged() -> t.Iterator[None]:
    """Log a store's failure in a request, where Flask answers 503 and logs nothing. Elsewhere the caller logs it."""
    try:
        yield
    except StoreUnavailable as error:
        if (request := request_at_hand()) is not None:
            interface_in_use().failures.tell(error, request)
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
    :param import_session: brings over the sessions of another kind, so that nobody is logged out: an importer
        (of ``flask_sessionstore.migrate``), or a function of the application and the request that returns the data
        of a session kept elsewhere, or None; or a list of these, of which the first that finds a session counts. What a
        function returns starts a new session if the browser has no session of ours. Such an import is not recorded, so
        the same data may be imported again after a log-out.
    :param on_store_call: a function, or a list of functions. After every call of the store that a request, or a method
        of this class, makes, each is called with a :class:`~flask_sessionstore.stores.watched.StoreCall`. One that has
        a method ``listen_to`` is given the application by it, so that it can connect to its signals.
    """

    interface_class: type[StoreSessionInterface] = StoreSessionInterface
    """The class of the application's ``session_interface``; a subclass may be set here."""
    reads_flask_session: t.ClassVar[bool] = False
    """Whether Flask-Session's settings are read elsewhere, and so are not an error."""

    def __init__(
        self,
        app: Flask | None = None,
        *,
        store: StoreSetting | None = None,
        import_session: ImportSession | None = None,
        on_store_call: OnStoreCall | t.Sequence[OnStoreCall] = (),
    ) -> None:
        self._store = store
        self._on_store_call = (on_store_call,) if callable(on_store_call) else tuple(on_store_call)
        self._import_session = import_session
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask, *, store: StoreSetting | None = None) -> None:
        """Set up ``app``: check its settings, make its store, set its ``session_interface``. Opens no connection.

        :param store: as for the class, for this application only.
        :raises ConfigurationError: if a setting cannot work, or the application is set up already.
        :raises TypeError: if ``app`` is not an application.
        """
        _check_app(app)
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
                f"an importer needs a store on the server's side, since it has to remember what it imported;"
                f" {type(made).__name__} cannot. A function as import_session works with every store",
                key="import_session",
            )
        slow = () if settings.slow_call is None else (slow_call_log(settings.slow_call.total_seconds()),)
        interface.on_store_call = (*self._on_store_call, *slow)
        for hook in t.cast("tuple[object, ...]", self._on_store_call):
            if isinstance(hook, _Listener) and not isinstance(hook, type):
                hook.listen_to(app)
        _watch_contact(app, made, settings)
        app.session_interface = interface
        app.extensions[EXTENSION] = self
        _name_who_takes_over(app)
        answer_as_in_views(app)
        if cli.NAME not in app.cli.commands:  # the application may have a command of its own by that name
            app.cli.add_command(cli.later)

    # -- sessions other than the request's own: these need an application context, as in a request or a command -------

    @_failures_are_logged()
    def find(self, owner: Owner) -> list[SessionInfo]:
        """The living sessions of ``owner``, most recently extended first. ``current`` marks this request's session.

        :param owner: a value as the session keeps it under SESSION_OWNER_KEY; compared as text.
        :raises UnsupportedByStore: if the store cannot list the sessions of an owner.
        :raises StoreUnavailable:
        """
        found = owners.find(asked_store_in_use(), _text_of(owner))
        session = _current()
        current = None if session is None else session.handle
        return [SessionInfo.of(handle, record, current=handle == current) for handle, record in found.items()]

    @_failures_are_logged()
    @urgently()
    def revoke(self, handle: str, *, owner: Owner | None = _ANY_OWNER) -> bool:
        """End a session by its handle. If the session was renewed, its successor ends.

        If it is the session of this request, the request goes on with a new session.

        :param owner: end the session only if it belongs to this owner: for a page that lets visitors end their own
            sessions. None ends nothing, since None is the id of a visitor who is not signed in.
        :return: whether a session ended. A text that is not a handle ends nothing.
        :raises UnsupportedByStore: if the store keeps nothing on the server's side.
        :raises StoreUnavailable:
        """
        server_store_in_use()
        store = t.cast("ServerSideStore", asked_store_in_use())
        if owner is None or not is_handle(handle):
            return False
        session = _current()
        current = None if session is None else session.handle
        ended = store.end_found(handle, owner=None if owner is _ANY_OWNER else _text_of(owner))
        if ended is None:
            return False
        _announce(ended)
        if session is not None and current in (handle, ended):
            _lifecycle_of(session).leave(by_itself=True)
        return True

    @_failures_are_logged()
    @urgently()
    def revoke_all(self, owner: Owner, *, keep_current: bool = False, keep: str | None = None) -> int:
        """End every session of ``owner``, also those being made just now, and return how many ended.

        Not covered: a sign-in whose password was checked before this call, and that is stored after it.

        :param keep_current: keep the session of this request.
        :param keep: the handle of another session to keep, if ``keep_current`` is not set.
        :raises UnsupportedByStore: if the store cannot list the sessions of an owner.
        :raises StoreUnavailable: some sessions, or all but one, may have ended; call it again.
        """
        text, session = _text_of(owner), _current()
        current = None if session is None else session.handle
        ended: set[str | None] = set()

        def note(handle: str) -> None:
            ended.add(handle)
            _announce(handle)

        interface, store = interface_in_use(), asked_store_in_use()
        if interface.importers:  # first, since an import that runs now looks for this mark after it wrote its record
            bar_owner(t.cast("ServerSideStore", store), text, interface.policy_of(app_in_use()).lifetime)
        kept = current if keep_current else keep
        count = owners.end_all(store, text, keep=kept, ended=note)
        if session is not None and current is not None and current != kept:
            lifecycle = _lifecycle_of(session)
            if current in ended or lifecycle.draft.owner_before == text:
                lifecycle.leave(by_itself=current in ended)
        return count

    @_failures_are_logged()
    def delete_expired(self, limit: int | None = None) -> int:
        """Remove expired sessions, if the store's engine does not remove them by itself, and the entries of ended
        sessions in the lists of their owners. Safe while applications run, also on many machines at once.

        :param limit: remove at most this many; None: all.
        :return: how many sessions were removed; if the engine removes sessions itself, how many entries of lists.
        :raises UnsupportedByStore: if this store never has anything to remove.
        :raises StoreUnavailable:
        """
        store = store_in_use()
        sweeps, index = store.ability(Sweeps), store.ability(OwnerIndex)
        if sweeps is None and index is None:
            raise UnsupportedByStore(f"{type(store).__name__} removes expired sessions by itself")
        removed = None if sweeps is None else sweeps.delete_expired(limit)
        pruned = 0 if index is None else index.prune(limit)
        return pruned if removed is None else removed

    @_failures_are_logged()
    @urgently()
    def ping(self) -> float:
        """Try whether the store can keep sessions now: add, read, replace and remove a record of nobody's.

        For a page that a load balancer asks whether this process is *ready*. Do not use it to find out whether the
        process is *alive*: restarting the process would not mend the store.

        :return: how long that took, in seconds. With ``cookie:`` nothing has to be tried.
        :raises StoreUnavailable: if the store cannot keep sessions now. In a view, Flask answers with 503.
        :raises ConfigurationError: if a table is missing, or the folder belongs to another user.
        """
        began = time.monotonic()
        store_in_use().probe()
        return time.monotonic() - began

    @contextlib.contextmanager
    def open(self, handle: str) -> t.Iterator[Session]:
        """The session under ``handle``, for jobs, sockets and tests::

            with sessions.open(handle) as session:
                session["report"] = "ready"

        Changes are stored when the block ends, merged with what requests wrote meanwhile; if the block raises, nothing
        is stored. Reading does not extend the session. Changes that need a new session key (a renewal, another owner,
        clearing and writing) need the browser: they raise, and nothing is stored.

        :raises SessionGone: if there is no such session, or it ended while the block ran.
        :raises SessionError: if the changes need a new session key.
        :raises UnsupportedByStore: if the store keeps nothing on the server's side.
        :raises StoreUnavailable:
        """
        server_store_in_use()
        if not is_handle(handle):
            raise SessionGone("not a handle; handles are 64 hexadecimal digits")
        session = interface_in_use().open_by_handle(app_in_use(), handle)
        lifecycle = _lifecycle_of(session)
        if session.handle is None:
            raise SessionGone("there is no session under this handle", kind=lifecycle.absence)
        yield session
        lifecycle.commit()
        if lifecycle.dropped is not None:
            raise SessionGone("the session ended before its changes could be stored", kind=lifecycle.absence)


def _check_app(app: object) -> None:
    if isinstance(app, Flask):
        return
    is_store = isinstance(app, (str, tuple, SessionStore))
    example = "SessionManager(app, store=...)" if is_store else "SessionManager(app)"
    raise TypeError(f"SessionManager takes a Flask application, not {type(app).__name__}: write {example}")


def _watch_contact(app: Flask, store: SessionStore, settings: Settings) -> None:
    """Set up what happens when the store's engine hangs, and when it answers again."""
    if store.contact is not None:
        store.contact.pause = settings.outage_pause.total_seconds()
        store.contact.listen(app, _announce_recovery)


def _announce_recovery(app: Flask) -> None:
    if isinstance(app.session_interface, StoreSessionInterface):
        app.session_interface.failures.recovered()
    signals.announce(signals.store_recovered, app)


def _name_who_takes_over(app: Flask) -> None:
    """At the first request, log an error if something has replaced the session interface since."""

    def look(sender: Flask, **_: object) -> None:
        flask.request_started.disconnect(look)
        if isinstance(sender.session_interface, StoreSessionInterface):
            return
        other = type(sender.session_interface)
        logger.error(
            "after SessionManager, something else has set app.session_interface: %s.%s keeps the sessions now, and"
            " flask_sessionstore keeps none. The interface that is set last is used: if an extension calls"
            " flask_session.Session(app) by itself, call init_app of SessionManager after that extension's",
            other.__module__,
            other.__qualname__,
        )

    flask.request_started.connect(look, app, weak=False)


def _current() -> Session | None:
    """The session of this request, if this application's store keeps it."""
    if not has_request_context():
        return None
    session = flask.session._get_current_object()  # type: ignore[attr-defined]
    if isinstance(session, Session) and getattr(source_of(session), "store", None) is asked_store_in_use():
        return session
    return None


def _lifecycle_of(session: Session) -> Lifecycle:
    return t.cast("Lifecycle", source_of(session))


def _announce(handle: str) -> None:
    signals.announce(signals.session_ended, app_in_use(), handle=handle, how="revoked")


def _text_of(owner: Owner) -> str:
    """An owner as text.

    :raises SessionInsertError: if no session could have such an owner.
    """
    text = owner_of(owner)
    if text is None:
        raise ValueError(
            "an owner is a str, an int or a UUID, not None: pass the value that sessions keep under SESSION_OWNER_KEY"
        )
    return text


def _seal(store: SessionStore, seal: bool | t.Literal["required"]) -> None:
    if not isinstance(store, ServerSideStore):
        raise ConfigurationError(
            f"SESSION_SEAL is for stores on the server's side; with {type(store).__name__}, write"
            f' SESSION_COOKIE_CONTENT_SECURITY = "private"',
            key="SESSION_SEAL",
        )
    # Applications may share a store object. An application must not weaken what another has asked for.
    store.seal = "required" if "required" in (seal, store.seal) else seal
