"""Flask's side: which cookie came in, which cookie and headers go out."""

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
from werkzeug.http import dump_cookie, http_date, parse_list_header
from werkzeug.sansio.http import parse_cookie
from werkzeug.wsgi import ClosingIterator

from . import settings, signals
from .errors import ConfigurationError, SessionTooLarge, StoreUnavailable
from .hints import Hints
from .key import Claim, SessionKey, Token
from .lifecycle import Lifecycle
from .policy import Policy, cookie_lifetime
from .record import Record, largest_keys, to_datetime
from .sessions import Session, begin, source_of
from .signing import Tokens
from .stores.base import SessionStore
from .user_agents import describe_client
from .visitor import Delete, Keep, OldSession, Send, Visitor

if t.TYPE_CHECKING:
    from .migrate.importing import Importer

logger = logging.getLogger("flask_sessionstore")

#: What every browser keeps of one Set-Cookie header, in bytes (RFC 6265, section 6.1, asks for 4096 at least; some
#: count more).
MAX_COOKIE_SIZE = 4093

ImportFunction = t.Callable[[Flask, Request], t.Mapping[str, object] | None]
Import = t.Union["Importer", ImportFunction]
ImportSession = t.Union[Import, t.Sequence[Import]]  # noqa: UP007  - evaluated at run time


class StoreSessionInterface(SessionInterface):
    """The session interface that keeps sessions in a store.

    :param store: where sessions are kept.
    :param policy: the application's settings.
    :param import_session: what brings over sessions kept elsewhere: see :class:`SessionManager`.
    """

    session_class = Session

    def __init__(self, store: SessionStore, policy: Policy, import_session: ImportSession | None = None) -> None:
        #: The application's store.
        self.store = store
        self._policy = policy
        #: What knows sessions kept elsewhere by what browsers present; and functions that make data of a request.
        self.importers, self.import_functions = _sorted_out(import_session)
        self._hints = Hints()

    def open_session(self, app: Flask, request: Request) -> Session | None:
        """The request's session, which has not looked at anything yet; None where the application has no secret.

        :raises ConfigurationError: if the secrets cannot be used.
        """
        if not app.secret_key:
            return None
        return self._begin(app, _Browser(self, app, request))

    def save_session(self, app: Flask, session: t.Any, response: Response) -> None:
        """Store what changed, and send the cookie if there is something to tell the browser.

        :raises SessionError: what the lifecycle raises; a :exc:`StoreUnavailable` becomes a 503 in ``response``
            instead, unless the application propagates exceptions, or nobody would see the response.
        """
        if not isinstance(session, Session):
            return
        lifecycle = t.cast("Lifecycle", source_of(session))
        browser = t.cast("_Browser", lifecycle.visitor)
        browser.answer(response)
        try:
            looked = self._look(app, lifecycle)
            lifecycle.commit()
            if looked is not None:
                looked(lifecycle.handle())
            self._send(app, lifecycle, response)
        except StoreUnavailable as error:
            if _propagates(app) or _is_event(browser.request):
                self._send(app, lifecycle, response)
                raise
            _turn_into_503(error, response)
            self._send(app, lifecycle, response)
            got_request_exception.send(app, _async_wrapper=app.ensure_sync, exception=error)
        except Exception as error:
            lifecycle.fail(error)
            self._send(app, lifecycle, response)
            raise
        finally:
            browser.begun = True
            lifecycle.draft.on_late_touch = browser.watch
            if browser.streams:  # what was read before may change in place, and no touch shows it
                browser.watch(lifecycle)

    def can_send(self, request: Request, response: Response | None) -> bool:
        """Whether a cookie can be sent in answer to ``request``. It cannot to an event of Flask-SocketIO.

        Where it cannot, a session keeps its key: a sign-in, ``renew()``, and ``clear()`` followed by a write raise
        :exc:`SessionError` and store nothing; a sign-out takes the owner out under the same key; what would make a new
        session is dropped with one logged warning, or raises :exc:`SessionError` if it was ``session.save()``.

        :param response: what the cookie would be sent with; None as long as there is none, in ``session.save()``.
        """
        return not _is_event(request)

    def open_by_handle(self, app: Flask, handle: str) -> Session:
        """The session under ``handle``, for code that no browser sent: see :meth:`SessionManager.open`."""
        return self._begin(app, _ByHandle(app, handle))

    def _begin(self, app: Flask, visitor: Visitor) -> Session:
        return begin(Lifecycle(self.store, self.policy_of(app), visitor), self.session_class)

    def policy_of(self, app: Flask) -> Policy:
        """The policy with what Flask has set now: an application may change these late."""
        policy = self._policy
        lifetime = app.permanent_session_lifetime
        refresh = app.config["SESSION_REFRESH_EACH_REQUEST"]
        if policy.lifetime != lifetime or policy.refresh is not refresh:
            self._policy = policy = msgspec.structs.replace(policy, lifetime=lifetime, refresh=refresh)
        return policy

    # -- headers ---------------------------------------------------------------------------------------------------

    def _look(self, app: Flask, lifecycle: Lifecycle) -> t.Callable[[str | None], None] | None:
        """In debug mode, look for what may not be meant. What is returned wants the handle, once all is stored."""
        if not (lifecycle.draft.loaded and app.debug):
            return None
        with lifecycle.lock:
            return self._hints.look(lifecycle.draft, lifecycle.handle(), lifecycle.visitor.has_body())

    def _send(self, app: Flask, lifecycle: Lifecycle, response: Response) -> None:
        browser, draft, outcome = t.cast("_Browser", lifecycle.visitor), lifecycle.draft, lifecycle.outcome
        if not isinstance(outcome, Keep) and self.can_send(browser.request, response):
            self._send_cookie(app, browser, outcome, response, signed_out=lifecycle.signed_out)
            return
        may_touch = browser.streams and browser.sent_cookie()
        if draft.accessed or may_touch:
            _vary_by_cookie(response)
        # A session that is gone may have been somebody's: nobody can tell.
        if self._policy.private_reads and (may_touch or lifecycle.dropped is not None or draft.was_somebody):
            _keep_private(response)

    def _send_cookie(
        self, app: Flask, browser: _Browser, outcome: Delete | Send, response: Response, *, signed_out: bool
    ) -> None:
        name = browser.cookie_name
        attributes = attributes_of(
            name,
            self.get_cookie_domain(app),
            self.get_cookie_path(app),
            self.get_cookie_secure(app),
            self.get_cookie_httponly(app),
            self.get_cookie_samesite(app),
            self.get_cookie_partitioned(app),
        )
        value = _value_of(browser, outcome, attributes) if isinstance(outcome, Send) else _DELETED
        response.headers.add("Set-Cookie", f"{name}={value}{attributes}")
        for old in browser.old_cookies() if signed_out or isinstance(outcome, Delete) else ():
            response.headers.add("Set-Cookie", f"{old}={_DELETED}{attributes}")
        _keep_private_with_cookie(response)
        _vary_by_cookie(response)


def _value_of(browser: _Browser, sent: Send, attributes: str) -> str:
    """A cookie's value, and its end if it has one."""
    record = sent.record
    lifetime = cookie_lifetime(record)
    seconds = 0 if lifetime is None else max(int(lifetime.total_seconds()), 1)
    token = Token(
        key=sent.key,
        issued=record.extended_ms // 1000,
        lifetime=seconds,
        permanent=record.permanent,
        seen=record.revision[:4],
    )
    value = browser.protector.dumps(token)
    if seconds:
        value += f"; Expires={http_date(to_datetime(record.expires_ms))}; Max-Age={seconds}"
    _check_cookie_size(len(browser.cookie_name) + 1 + len(value) + len(attributes), record)
    return value


class _Browser:
    """What one request's browser presented. Nothing is parsed before somebody asks."""

    __slots__ = (
        "_app",
        "_cookie_path",
        "_interface",
        "_old",
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
        self._protector: Tokens | None = None
        #: Whether the body of the response is made while it is sent.
        self.streams = False
        self._watches = False
        self._old: t.Sequence[OldSession] | None = None
        #: Asked for while the request's context stands, as the path: an override may depend on it.
        self.cookie_name = interface.get_cookie_name(app)
        self._cookie_path = interface.get_cookie_path(app)

    def claims(self) -> list[Claim]:
        cookies = self._cookies(self.cookie_name)
        if not cookies:
            return []
        claim = settings.protection(self._app).claim
        return [found for text in cookies if (found := claim(text)) is not None]

    def tokens(self) -> list[Token]:
        if self._tokens is None:
            self._tokens = self._verified()
        return self._tokens

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
        answers = (function(self._app, self.request) for function in self._interface.import_functions)
        return next((answer for answer in answers if answer is not None), None)

    def old_cookies(self) -> set[str]:
        """The names of the cookies, other than ours, with which an old session was presented."""
        names = {importer.cookie for importer in self._interface.importers} - {None, self.cookie_name}
        return {name for name in names if name is not None and self._cookies(name)}

    def client(self) -> str | None:
        return describe_client(self.request.headers.get("User-Agent", ""), self.request.remote_addr)

    def answer(self, response: Response) -> None:
        """Cookies go out with ``response`` now. Flask may come again, with another one."""
        self._response, self.begun, self._watches = response, False, False
        self.streams = _is_generated(response)

    def sent_cookie(self) -> bool:
        """Whether there was a cookie of our name, whatever it says."""
        return bool(self._cookies(self.cookie_name))

    def watch(self, lifecycle: Lifecycle) -> None:
        """Warn, once the response is sent, if the session was changed from now on and nobody saved it."""
        if not self._watches and self._response is not None:
            self._watches = True
            before = lifecycle.unsaved()
            self._response.call_on_close(lambda: self._end_watch(lifecycle, before))

    def _end_watch(self, lifecycle: Lifecycle, before: tuple[bool, bool]) -> None:
        self._watches = False
        if lifecycle.unsaved() != before:
            logger.warning(
                "the session was changed after the response was made, and nobody saved it: call session.save()"
            )

    def may_extend(self) -> bool:
        response = t.cast("Response", self._response)
        return not _is_public(response) and self._interface.can_send(self.request, response)

    def announce(self, signal: NamedSignal, **arguments: t.Any) -> None:
        signals.announce(signal, self._app, **arguments)

    def has_body(self) -> bool:
        environ = self.request.environ
        return environ.get("CONTENT_LENGTH", "") not in ("", "0") or "HTTP_TRANSFER_ENCODING" in environ

    def no_cookie(self) -> str | None:
        if self.begun:
            return "the response has begun"
        return None if self._interface.can_send(self.request, self._response) else "no cookie can be sent here"

    @property
    def protector(self) -> Tokens:
        """With the secrets as they are now; kept for the request."""
        if self._protector is None:
            protection = settings.protection(self._app)
            self._protector = protection.tokens(settings.secrets(self._app), self.cookie_name, self._cookie_path)
        return self._protector

    def _verified(self) -> list[Token]:
        cookies = self._cookies(self.cookie_name)
        if not cookies:
            return []
        loads = self.protector.loads
        tokens = [token for text in cookies if (token := loads(text, self._interface.store.key_class)) is not None]
        return tokens if len(tokens) < 2 else list({token.key: token for token in tokens}.values())

    def _cookies(self, name: str) -> list[str]:
        """The values of the cookies of a name. What we write needs no unquoting: no need to have them all parsed.

        The header is split as browsers write it: at every semicolon, in quotes or not.
        """
        header = self.request.environ.get("HTTP_COOKIE", "")
        values = [
            _unquoted(value.strip(" \t"))
            for part in header.split(";")
            if name in part
            for key, _, value in (part.partition("="),)
            # Blanks and tabs, as browsers cut them off: a name that begins with U+00A0, say, is another name to them.
            if key.strip(" \t") == name
        ]
        return values if len(values) < 2 else list(dict.fromkeys(values))


def _sorted_out(given: ImportSession | None) -> tuple[list[Importer], list[ImportFunction]]:
    """Importers, and functions of one's own.

    :raises ConfigurationError: for what is neither.
    """
    every = [] if given is None else list(given) if isinstance(given, (list, tuple)) else [given]
    importers = [one for one in every if hasattr(one, "recognise")]
    functions = [one for one in every if callable(one) and one not in importers]
    if len(importers) + len(functions) < len(every):
        raise ConfigurationError(
            "import_session takes an importer of flask_sessionstore.migrate, a function of the application and the"
            " request, or a list of these",
            key="import_session",
        )
    return t.cast("list[Importer]", importers), t.cast("list[ImportFunction]", functions)


def _unquoted(value: str) -> str:
    """A cookie's value without quotes around it, as Werkzeug reads it."""
    if not (len(value) > 1 and value[0] == value[-1] == '"'):
        return value
    return parse_cookie(f"_={value}").get("_", "") if "\\" in value else value[1:-1]


class _ByHandle:
    """Presented by nobody: a session that the server's side opens by its handle."""

    def __init__(self, app: Flask, handle: str) -> None:
        self._app = app
        self._token = Token(SessionKey.of(handle), issued=0, lifetime=0, permanent=False, seen=b"")

    def claims(self) -> list[Claim]:
        return []

    def tokens(self) -> list[Token]:
        return [self._token]

    def old(self) -> t.Sequence[OldSession]:
        return ()

    def seed(self) -> None:
        return None

    def client(self) -> None:
        return None

    def has_body(self) -> bool:
        return False

    def no_cookie(self) -> str:
        return "it was opened by its handle"

    def may_extend(self) -> bool:
        return False

    def announce(self, signal: NamedSignal, **arguments: t.Any) -> None:
        signals.announce(signal, self._app, **arguments)


# -- caches between us and the browser -----------------------------------------------------------------------------


def _has(response: Response, header: str) -> bool:
    """As ``in response.headers``, which takes ten times as long where the header is missing, as it nearly always is."""
    for name, _ in response.headers:  # noqa: SIM110  - a third faster than any()
        if name.lower() == header:
            return True
    return False


def _vary_by_cookie(response: Response) -> None:
    if _has(response, "vary"):
        response.vary.add("Cookie")
    else:
        response.headers.add("Vary", "Cookie")


def _cache_control(response: Response) -> dict[str, str]:
    """The directives of Cache-Control by name."""
    if not _has(response, "cache-control"):
        return {}
    return _directives(", ".join(response.headers.getlist("Cache-Control")))


def _directives(header: str) -> dict[str, str]:
    """By name. Names have no case, though Werkzeug gives them one."""
    return {directive.partition("=")[0].strip().lower(): directive for directive in parse_list_header(header)}


def _targeted(response: Response) -> dict[str, str]:
    """The headers that tell some caches more than Cache-Control does, and that those obey instead (RFC 9213)."""
    return {name: value for name, value in response.headers if name.lower().endswith(_TARGETED)}


def _is_public(response: Response) -> bool:
    return not _PUBLIC.isdisjoint(_cache_control(response)) or any(
        _NOT_SHARED.isdisjoint(_directives(value)) for value in _targeted(response).values()
    )


def _keep_private_with_cookie(response: Response) -> None:
    """A cookie is for one browser: no cache between may keep it (CVE-2023-30861 is what happens otherwise)."""
    if not any(name.lower().endswith(_FOR_CACHES) for name, _ in response.headers):
        response.headers.add("Cache-Control", f"private, {_NOT_THE_COOKIE}")
        return
    if _is_public(response):
        logger.warning("a response marked as public carries a session cookie: it was made private")
    directives = _keep_private(response)
    if directives.isdisjoint(("no-store", "no-cache")):
        response.headers["Cache-Control"] += f", {_NOT_THE_COOKIE}"


def _keep_private(response: Response) -> t.AbstractSet[str]:
    """No shared cache may keep the response. What the view said of caches is returned, by name."""
    for name in _targeted(response):
        response.headers.remove(name)
    directives = _cache_control(response)
    kept = [directive for name, directive in directives.items() if name not in (*_PUBLIC, "private")]
    response.headers["Cache-Control"] = ", ".join(["private", *kept])
    return directives.keys()


_PUBLIC = frozenset({"public", "s-maxage"})
_NOT_THE_COOKIE = 'no-cache="Set-Cookie"'  # RFC 9111, section 5.2.2.4
# Of content delivery networks, of surrogates and of nginx; and what in them invites nobody to share.
_TARGETED = ("cdn-cache-control", "surrogate-control", "x-accel-expires")
_FOR_CACHES = ("cache-control", *_TARGETED)
_NOT_SHARED = frozenset({"private", "no-store", "0"})


# -- what browsers demand of a cookie ------------------------------------------------------------------------------


# What takes the place of a cookie's value to delete it: empty, and past its end.
_DELETED = "; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0"


@lru_cache(maxsize=64)
def attributes_of(
    name: str, domain: str | None, path: str, secure: bool, httponly: bool, samesite: str | None, partitioned: bool
) -> str:
    """What follows a cookie's value and end, the same for setting and for deleting it. As Werkzeug writes it.

    Made once for each set of settings: it is a third of what a cookie costs.

    :raises ConfigurationError: for what browsers would drop without a word.
    """
    _check_cookie(name, domain, path, secure, samesite, partitioned)
    header = dump_cookie(
        name,
        domain=domain,
        path=path,
        secure=secure,
        httponly=httponly,
        samesite=samesite,
        partitioned=partitioned,
    )
    return header.removeprefix(f"{name}=")


def _check_cookie(
    name: str, domain: str | None, path: str, secure: bool, samesite: str | None, partitioned: bool
) -> None:
    """RFC 6265bis, sections 4.1.3 and 5.6; for Partitioned, the CHIPS draft."""
    if name.lower().startswith(("__host-", "__secure-")) and not secure:
        raise _browsers_refuse(f"a name such as {name!r} without Secure", "SESSION_COOKIE_SECURE = True")
    if name.lower().startswith("__host-"):
        if domain:
            raise _browsers_refuse(f"a name such as {name!r} with a domain", "SESSION_COOKIE_DOMAIN = None")
        if path != "/":
            raise _browsers_refuse(f"a name such as {name!r} below a path", 'SESSION_COOKIE_PATH = "/"')
    if samesite is not None and samesite.lower() == "none" and not secure:
        raise _browsers_refuse("SameSite=None without Secure", "SESSION_COOKIE_SECURE = True")
    if partitioned and not secure:
        raise _browsers_refuse("Partitioned without Secure", "SESSION_COOKIE_SECURE = True")


def _browsers_refuse(what: str, instead: str) -> ConfigurationError:
    return ConfigurationError(f"browsers refuse a cookie of {what}; set {instead}", key=instead.partition(" ")[0])


def _check_cookie_size(size: int, record: Record) -> None:
    """Browsers drop an over-long cookie without a word, and what they had stays."""
    if size > MAX_COOKIE_SIZE:
        largest = largest_keys(record.state)
        raise SessionTooLarge(
            f"the session's cookie is {size} bytes, and browsers keep {MAX_COOKIE_SIZE}; its largest keys are"
            f" {', '.join(map(repr, largest))}. A server-side store has no such limit",
            size=size,
            limit=MAX_COOKIE_SIZE,
            largest=largest,
        )


# -- bodies that the application makes while they are sent ---------------------------------------------------------


def _is_generated(response: Response) -> bool:
    """Whether the body may run code of the application. That of a file does not, whatever the server wraps it in."""
    if not response.is_streamed:
        return False
    body = response.response
    if isinstance(body, ClosingIterator):  # it ran as a WSGI application, as Werkzeug's error pages do
        return not _has(response, "content-length")
    return not response.direct_passthrough or isinstance(body, types.GeneratorType)


# -- requests that have no response of their own -------------------------------------------------------------------


def _is_event(request: Request) -> bool:
    """Whether it is an event of Flask-SocketIO: the request that opened the socket, once more."""
    return hasattr(request, "namespace") and hasattr(request, "event")


# -- failure at the end of a request -------------------------------------------------------------------------------

# What says something of the body, or of the answer that it was: where it is, how long it is good.
_OF_THE_BODY = frozenset(
    {"etag", "last-modified", "accept-ranges", "transfer-encoding", "trailer", "digest", "repr-digest", "location"}
    | {"refresh", "cache-control", "expires", "pragma", "age", "cdn-cache-control", "surrogate-control", "retry-after"}
)


def _is_of_the_body(name: str) -> bool:
    name = name.lower()
    return name in _OF_THE_BODY or (name.startswith("content-") and not name.startswith("content-security-policy"))


def _propagates(app: Flask) -> bool:
    propagate = app.config["PROPAGATE_EXCEPTIONS"]
    return bool(app.testing or app.debug if propagate is None else propagate)


def _turn_into_503(error: StoreUnavailable, response: Response) -> None:
    """Flask would make it a 500. The response is in our hands already, so it is changed in place."""
    close = getattr(response.response, "close", None)  # the body alone: the server will close the response itself
    if close is not None:
        close()
    unavailable = error.get_response()
    for name in {name for name, _ in response.headers if _is_of_the_body(name)}:
        response.headers.remove(name)
    response.status_code = unavailable.status_code
    response.headers.extend(unavailable.headers)
    response.direct_passthrough = False
    response.set_data(unavailable.get_data())
