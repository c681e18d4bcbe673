"""The side that Flask sees: which cookies come in, and which cookie and headers go out."""

from __future__ import annotations

import logging
import types
import typing as t
from functools import lru_cache

import msgspec
from blinker import NamedSignal
from flask import Flask
from flask.sessions import SessionInterface
from flask.signals import got_request_exception
from flask.wrappers import Request, Response
from werkzeug.http import http_date
from werkzeug.wsgi import ClosingIterator

from . import cookies, settings, signals
from .errors import ConfigurationError, StoreUnavailable
from .failures import Failures, request_at_hand
from .hints import Hints
from .key import SessionKey
from .lifecycle import Lifecycle
from .policy import Policy, cookie_lifetime, is_persistent
from .record import to_datetime
from .sessions import Session, begin, source_of
from .stores.base import SessionStore
from .sweeping import Sweeper
from .tokens import Claim, Token, Tokens
from .unavailable import propagates, turn_into_503
from .user_agents import describe_client
from .visitor import KEEP, Delete, OldSession, Outcome, Send, Visitor

if t.TYPE_CHECKING:
    from .migrate.importing import Importer
    from .stores.watched import OnStoreCall, WatchedStore

logger = logging.getLogger("flask_sessionstore")

ImportFunction = t.Callable[[Flask, Request], t.Mapping[str, object] | None]
Import = t.Union["Importer", ImportFunction]
ImportSession = t.Union[Import, t.Sequence[Import]]  # noqa: UP007  - evaluated at run time


class StoreSessionInterface(SessionInterface):
    """The session interface that keeps sessions in a store.

    :param store: keeps the sessions.
    :param policy: the application's settings.
    :param import_session: imports sessions that were kept elsewhere: see :class:`SessionManager`.
    """

    session_class = Session
    """The class of the sessions that it opens; a subclass may be set here."""

    def __init__(self, store: SessionStore, policy: Policy, import_session: ImportSession | None = None) -> None:
        self.store = store
        """The application's store."""
        self._policy = policy
        self.on_store_call: t.Sequence[OnStoreCall] = ()
        """Called after every call of the store: see :class:`SessionManager`."""
        # By the id of the store that is watched; filled in one step, since two threads may come first.
        self._watched: dict[int, WatchedStore] = {}
        self.failures = Failures()
        """Logs the failures of the store."""
        self.importers, self.import_functions = _split(import_session)
        """Importers recognise the credentials of sessions of another kind; import functions make data from a request.
        """
        self._hints = Hints()
        self._sweeper = Sweeper(store)

    def open_session(self, app: Flask, request: Request) -> Session | None:
        """The request's session, which has not read the cookie yet; None if the application has no secret.

        :raises ConfigurationError: if the secrets cannot be used.
        """
        if not app.secret_key:
            return None
        return self._begin(app, _Browser(self, app, request))

    def save_session(self, app: Flask, session: t.Any, response: Response) -> None:
        """Store what changed, and send a cookie if the browser has to be told something.

        :raises SessionError: as the lifecycle raises it. A :exc:`StoreUnavailable` turns ``response`` into a 503
            instead, unless the application propagates exceptions, or nobody would see the response.
        """
        if not isinstance(session, Session):
            return
        lifecycle: Lifecycle = source_of(session)  # type: ignore[assignment]  # a cast is a call
        browser: _Browser = lifecycle.visitor  # type: ignore[assignment]
        browser.answer(response)
        try:
            looked = self._look(app, lifecycle)
            lifecycle.commit()
            if looked is not None:
                looked(lifecycle.handle())
            self._send(app, lifecycle, response)
            if lifecycle.made_session and self._sweeper.is_due(self._policy.sweep_interval):
                response.call_on_close(self._sweeper.sweep)  # the visitor has the answer by then
        except StoreUnavailable as error:
            if propagates(app) or _is_event(browser.request):
                self._send(app, lifecycle, response)
                raise
            turn_into_503(error, response)
            self._send(app, lifecycle, response)
            got_request_exception.send(app, _async_wrapper=app.ensure_sync, exception=error)
        except Exception as error:
            lifecycle.fail(error)
            self._send(app, lifecycle, response)
            raise
        finally:
            browser.begun = True
            lifecycle.draft.on_late_touch = browser.watch
            if browser.streams:  # a value that was read before may change in place, which is not a use of the session
                browser.watch(lifecycle)

    def can_send(self, request: Request, response: Response | None) -> bool:
        """Whether a cookie can be sent in answer to ``request``. It cannot in answer to an event of Flask-SocketIO.

        If it cannot be sent, a session keeps its key. A sign-in, ``renew()``, and ``clear()`` followed by a write raise
        :exc:`SessionError` and store nothing. A sign-out removes the owner under the same key. A write that would make
        a new session is dropped with one logged warning; ``session.save()`` raises :exc:`SessionError` instead.

        :param response: the response that would carry the cookie; None in ``session.save()``, before there is one.
        """
        return not _is_event(request)

    def open_by_handle(self, app: Flask, handle: str) -> Session:
        """The session under ``handle``, for code that runs without the browser: see :meth:`SessionManager.open`."""
        return self._begin(app, _ByHandle(self, app, handle))

    def _begin(self, app: Flask, visitor: Visitor) -> Session:
        store = self.asked if self.on_store_call else self.store
        return begin(Lifecycle(store, self.policy_of(app), visitor), self.session_class)

    @property
    def asked(self) -> SessionStore:
        """The store as requests ask it: what they ask is told to :attr:`on_store_call`."""
        if not self.on_store_call:
            return self.store
        found = self._watched.get(id(self.store))
        if found is None:
            from .stores.watched import watched

            found = self._watched.setdefault(id(self.store), watched(self.store, self.on_store_call))
        return found

    def policy_of(self, app: Flask) -> Policy:
        """The policy with Flask's present settings, which an application may change after ``init_app``."""
        policy = self._policy
        lifetime = app.permanent_session_lifetime
        refresh = app.config["SESSION_REFRESH_EACH_REQUEST"]
        if policy.lifetime != lifetime or policy.refresh is not refresh:
            self._policy = policy = msgspec.structs.replace(policy, lifetime=lifetime, refresh=refresh)
        return policy

    # -- headers ---------------------------------------------------------------------------------------------------

    def _look(self, app: Flask, lifecycle: Lifecycle) -> t.Callable[[str | None], None] | None:
        """In debug mode, look for likely mistakes. The returned function is to be called with the handle, once the
        session is stored.
        """
        if not (lifecycle.draft.loaded and app.debug):
            return None
        with lifecycle.lock:
            return self._hints.look(lifecycle.draft, lifecycle.handle(), lifecycle.visitor.has_body())

    def _send(self, app: Flask, lifecycle: Lifecycle, response: Response) -> None:
        browser: _Browser = lifecycle.visitor  # type: ignore[assignment]
        draft, outcome = lifecycle.draft, lifecycle.outcome
        if outcome is not KEEP and self.can_send(browser.request, response):
            self._send_cookie(app, browser, outcome, response, signed_out=lifecycle.signed_out)
            return
        may_touch = browser.streams and browser.sent_cookie()
        if draft.accessed or may_touch:
            cookies.vary_by_cookie(response)
        # In a session that is gone somebody may have been signed in; it is not known any more.
        if self._policy.private_reads and (may_touch or lifecycle.dropped is not None or draft.was_somebody):
            cookies.keep_private(response)

    def _send_cookie(
        self, app: Flask, browser: _Browser, outcome: Outcome, response: Response, *, signed_out: bool
    ) -> None:
        name = browser.cookie_name
        attributes = cookies.attributes_of(
            name,
            self.get_cookie_domain(app),
            self.get_cookie_path(app),
            self.get_cookie_secure(app),
            self.get_cookie_httponly(app),
            self.get_cookie_samesite(app),
            self.get_cookie_partitioned(app),
        )
        value = self._value_of(browser, outcome, attributes) if isinstance(outcome, Send) else cookies.DELETED
        if value is not None:
            response.headers.add("Set-Cookie", f"{name}={value}{attributes}")
        for old in browser.old_cookies() if signed_out or isinstance(outcome, Delete) else ():
            response.headers.add("Set-Cookie", f"{old}={cookies.DELETED}{attributes}")
        cookies.keep_private_with_cookie(response)

    def _value_of(self, browser: _Browser, sent: Send, attributes: str) -> str | None:
        """A cookie's value, and its end if it has one; None if the cookie would tell the browser nothing."""
        mark = cookies.mark_of(attributes)
        if browser.holds(sent, mark) and not self.store.needs_seen and self._policy.refresh_interval:
            return None
        token = _token_of(sent, mark)
        value = browser.protector.dumps(token)
        if token.lifetime:
            value += f"; Expires={_http_date(sent.record.expires_ms // 1000)}; Max-Age={token.lifetime}"
        cookies.check_cookie_size(len(browser.cookie_name) + 1 + len(value) + len(attributes), sent.record)
        return value


def _token_of(sent: Send, mark: int) -> Token:
    record = sent.record
    lifetime = cookie_lifetime(record)
    issued = record.extended_ms // 1000 if lifetime else 0
    return Token(sent.key, issued, lifetime, record.permanent, record.revision[:4], mark)


@lru_cache(maxsize=64)
def _http_date(seconds: int) -> str:
    """A date as headers write it; cached, since many cookies expire in the same second, and Werkzeug takes long."""
    return http_date(to_datetime(seconds * 1000))


class _Browser:
    """The browser of one request, as a :class:`.Visitor`. Nothing is parsed before it is needed."""

    __slots__ = (
        "_app",
        "_cookie_path",
        "_interface",
        "_old",
        "_only_token",
        "_protector",
        "_response",
        "_tokens",
        "_watches",
        "begun",
        "cookie_name",
        "request",
        "streams",
    )

    def __init__(self, interface: StoreSessionInterface, app: Flask, request: Request) -> None:
        self._interface = interface
        self._app = app
        self.request = request
        #: Whether the response has begun.
        self.begun = False
        self._response: Response | None = None
        self._tokens: list[Token] | None = None
        # The verified token of the only cookie of our name; None before tokens are asked for, too.
        self._only_token: Token | None = None
        self._protector: Tokens | None = None
        #: Whether the body of the response is made while it is sent.
        self.streams = False
        self._watches = False
        self._old: t.Sequence[OldSession] | None = None
        #: Name and path are read while the request's context exists, since an override may need it.
        self.cookie_name = interface.get_cookie_name(app)
        self._cookie_path = interface.get_cookie_path(app)

    def claims(self) -> list[Claim]:
        texts = self._cookies(self.cookie_name)
        if not texts:
            return []
        read_claim = settings.protection(self._app).read_claim
        return [claim for text in texts if (claim := read_claim(text)) is not None]

    def tokens(self) -> list[Token]:
        if self._tokens is None:
            self._tokens = self._verified()
        return self._tokens

    def holds(self, sent: Send, mark: int) -> bool:
        """Whether the browser has a cookie that makes another one needless, and no other of our name.

        :param mark: what tells the attributes of the other cookie.
        """
        token = self._only_token
        return token is not None and token.says_all(sent.key, mark) and not is_persistent(sent.record)

    def reads_former(self) -> bool:
        return bool(self._app.config.get("SECRET_KEY_FALLBACKS"))

    def old(self) -> t.Sequence[OldSession]:
        importers = self._interface.importers
        if not importers:
            return ()
        if self._old is None:
            from .migrate.importing import candidates

            self._old = list(candidates(importers, self._app, self._values_of))
        return self._old

    def _values_of(self, name: str | None) -> list[str]:
        return self._cookies(name or self.cookie_name)

    def seed(self) -> t.Mapping[str, object] | None:
        for function in self._interface.import_functions:
            answer = function(self._app, self.request)
            if answer is not None:
                return answer
        return None

    def old_cookies(self) -> set[str]:
        """The names of the cookies, other than ours, with which an old session was presented."""
        names = {importer.cookie for importer in self._interface.importers} - {None, self.cookie_name}
        return {name for name in names if name is not None and self._cookies(name)}

    def client(self) -> str | None:
        return describe_client(self.request.headers.get("User-Agent", ""), self.request.remote_addr)

    def answer(self, response: Response) -> None:
        """From now on cookies are sent with ``response``. Flask may call this again with another response."""
        self._response, self.begun, self._watches = response, False, False
        self.streams = _is_generated(response)

    def sent_cookie(self) -> bool:
        """Whether the request has a cookie with our name, valid or not."""
        return bool(self._cookies(self.cookie_name))

    def watch(self, lifecycle: Lifecycle) -> None:
        """Once the response is sent, warn if the session was changed after this call and was not saved."""
        if not self._watches and self._response is not None:
            self._watches = True
            before = lifecycle.unsaved()
            self._response.call_on_close(lambda: self._end_watch(lifecycle, before))

    def _end_watch(self, lifecycle: Lifecycle, before: tuple[bool, bool]) -> None:
        self._watches = False
        if lifecycle.unsaved() != before:
            logger.warning(
                "the session was changed after the response was made, and was not saved: call session.save()"
            )

    def may_extend(self) -> bool:
        response: Response = self._response  # type: ignore[assignment]
        return not cookies.is_public(response) and self._interface.can_send(self.request, response)

    def announce(self, signal: NamedSignal, **arguments: t.Any) -> None:
        signals.announce(signal, self._app, **arguments)

    def report(self, error: StoreUnavailable) -> None:
        self._interface.failures.tell(error, self.request)

    def has_body(self) -> bool:
        environ = self.request.environ
        return environ.get("CONTENT_LENGTH", "") not in ("", "0") or "HTTP_TRANSFER_ENCODING" in environ

    def no_cookie(self) -> str | None:
        if self.begun:
            return "the response has begun"
        return None if self._interface.can_send(self.request, self._response) else "no cookie can be sent here"

    @property
    def protector(self) -> Tokens:
        """Reads and writes this cookie's tokens, under the present secrets; made once for the request."""
        if self._protector is None:
            protection = settings.protection(self._app)
            self._protector = protection.tokens(settings.secrets(self._app), self.cookie_name, self._cookie_path)
        return self._protector

    def _verified(self) -> list[Token]:
        texts = self._cookies(self.cookie_name)
        if not texts:
            return []
        loads, key_class = self.protector.loads, self._interface.store.key_class
        if len(texts) == 1:
            self._only_token = token = loads(texts[0], key_class)
            return [] if token is None else [token]
        tokens = [token for text in texts if (token := loads(text, key_class)) is not None]
        # If two tokens have the same key, the token of the current secret counts, so it comes last: the other cookie
        # may have a path or domain where our cookie does not replace it.
        tokens.sort(key=lambda token: not token.former)
        return list({token.key: token for token in tokens}.values())

    def _cookies(self, name: str) -> list[str]:
        return cookies.values_of(name, self.request.environ.get("HTTP_COOKIE", ""))


def _split(given: ImportSession | None) -> tuple[list[Importer], list[ImportFunction]]:
    """The importers, and the application's own functions.

    :raises ConfigurationError: if an item is neither.
    """
    items = [] if given is None else list(given) if isinstance(given, (list, tuple)) else [given]
    importers = [item for item in items if hasattr(item, "recognise")]
    functions = [item for item in items if callable(item) and item not in importers]
    if len(importers) + len(functions) < len(items):
        raise ConfigurationError(
            "import_session takes an importer of flask_sessionstore.migrate, a function of the application and the"
            " request, or a list of these",
            key="import_session",
        )
    return t.cast("list[Importer]", importers), t.cast("list[ImportFunction]", functions)


class _ByHandle:
    """A visitor without a browser: the server opens a session by its handle."""

    def __init__(self, interface: StoreSessionInterface, app: Flask, handle: str) -> None:
        self._interface, self._app = interface, app
        self._token = Token(SessionKey.of(handle), issued=0, lifetime=0, permanent=False, seen=b"", mark=0)

    def claims(self) -> list[Claim]:
        return []

    def tokens(self) -> list[Token]:
        return [self._token]

    def reads_former(self) -> bool:
        return False

    def old(self) -> t.Sequence[OldSession]:
        return ()

    def seed(self) -> None:
        return None

    def client(self) -> None:
        return None

    def has_body(self) -> bool:
        return False

    def no_cookie(self) -> str:
        return "the session was opened by its handle"

    def may_extend(self) -> bool:
        return False

    def announce(self, signal: NamedSignal, **arguments: t.Any) -> None:
        signals.announce(signal, self._app, **arguments)

    def report(self, error: StoreUnavailable) -> None:
        self._interface.failures.tell(error, request_at_hand())


# -- bodies that the application makes while they are sent ---------------------------------------------------------


def _is_generated(response: Response) -> bool:
    """Whether sending the body may run code of the application. For a file it does not, even if the server wraps it."""
    if not response.is_streamed:
        return False
    body = response.response
    if isinstance(body, ClosingIterator):  # called as a WSGI application, as Werkzeug's error pages are
        return not cookies.has_header(response, "content-length")
    return not response.direct_passthrough or isinstance(body, types.GeneratorType)


# -- requests that have no response of their own -------------------------------------------------------------------


def _is_event(request: Request) -> bool:
    """Whether this is an event of Flask-SocketIO, which reuses the request that opened the socket."""
    return hasattr(request, "namespace") and hasattr(request, "event")
