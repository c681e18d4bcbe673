"""Kinds of requests, which ``interleaving`` runs in every order; who is signed in; and the browser that sends them."""

from __future__ import annotations

import typing as t

from blinker import NamedSignal

from flask_sessionstore import codec
from flask_sessionstore.errors import SessionError, StoreUnavailable
from flask_sessionstore.lifecycle import Lifecycle
from flask_sessionstore.policy import Policy
from flask_sessionstore.record import TOMBSTONE_TIME
from flask_sessionstore.sessions import Session, begin
from flask_sessionstore.testing import FaultyStore
from flask_sessionstore.tokens import Claim, Token
from flask_sessionstore.visitor import KEEP, OldSession, Outcome, Send

STARTED = 1_767_225_600.0
# An hour later an extension is due, so that even a read writes.
LATER = STARTED + 3600
#: Seconds: longer than tombstones stand, and longer than a request counts as one under way when its session went.
PAUSE_TIME = TOMBSTONE_TIME.total_seconds() + 1
MORE_THAN_UNDER_WAY = 11.0


class Kind(t.NamedTuple):
    """One kind of request."""

    name: str
    #: Its view, which returns the keys that it removed. The view writes ``value``, which no other request writes.
    view: t.Callable[[Session, str], t.Collection[str]]
    #: The key it writes, if any.
    writes: str | None = None
    #: Whether it ends the session, whatever is in it.
    ends: bool = False
    #: Whether it calls ``renew()``.
    renews: bool = False
    #: Called instead of a request, with the store and the session's handle.
    act: t.Callable[[FaultyStore, str], object] | None = None
    #: Whether it has a body, as a request has that a form sends.
    body: bool = False
    #: Whether it comes from another browser, which has no session yet.
    elsewhere: bool = False
    #: Whether it is an event of a socket, which cannot be answered with a cookie.
    event: bool = False
    #: Whether its browser also sends the cookie of another living session.
    two_cookies: bool = False
    #: Whether it comes more than ten seconds after the others, at some moment of the order.
    later: bool = False

    def __str__(self) -> str:
        return self.name


def later(kind: Kind) -> Kind:
    """As ``kind``, but it comes more than ten seconds after everything that has happened before it."""
    return kind._replace(name=f"{kind} later", later=True)


def with_two_cookies(kind: Kind) -> Kind:
    """As ``kind``, from a browser that sends two cookies."""
    return kind._replace(name=f"{kind} with two cookies", two_cookies=True)


def _assign(key: str, make: t.Callable[[str], object] = str) -> t.Callable[[Session, str], t.Collection[str]]:
    def view(session: Session, value: str) -> t.Collection[str]:
        session[key] = make(value)
        return ()

    return view


def _remove(key: str) -> t.Callable[[Session, str], t.Collection[str]]:
    return lambda session, value: () if session.pop(key, None) is None else (key,)


def _count(session: Session, value: str) -> t.Collection[str]:
    session.update_or("hits", 1, lambda hits: hits + 1)
    return ()


def _pop_all(session: Session, value: str) -> t.Collection[str]:
    keys = list(session)
    for key in keys:
        session.pop(key)
    return keys


def _clear(session: Session, value: str) -> t.Collection[str]:
    session.clear()
    return ()


def _clear_and_write(session: Session, value: str) -> t.Collection[str]:
    session.clear()
    session["farewell"] = value
    return ()


def _purge(session: Session, value: str) -> t.Collection[str]:
    session.purge()
    return ()


def _renew(session: Session, value: str) -> t.Collection[str]:
    session["right"] = value
    session.renew()
    return ()


def _edit_profile(session: Session, value: str) -> t.Collection[str]:
    user = session.get(USER)
    if user is not None:
        session[USER] = {**user, "token": value}
    return ()


def _read(session: Session, value: str) -> t.Collection[str]:
    session.get("cart")
    return ()


def _nothing(session: Session, value: str) -> t.Collection[str]:
    return ()


OWNER = "_user_id"
#: A login key, which does not name an owner.
USER = "user"
ANN = "ann"


WRITE = Kind("write", _assign("note"), writes="note")
OTHER = Kind("write other key", _assign("other"), writes="other")
COUNTER = Kind("counter", _count, writes="hits")
POP = Kind("pop to empty", _pop_all)
CLEAR = Kind("clear", _clear, ends=True)
CLEAR_AND_WRITE = Kind("clear and write", _clear_and_write, writes="farewell", ends=True)
PURGE = Kind("purge", _purge, ends=True)
#: The user gets a new right, and therefore a new session key.
RENEW = Kind("renew", _renew, writes="right", renews=True)
#: A request without a body, such as an OAuth callback, or a poll with a remember cookie.
SIGN_IN = Kind("sign in", _assign(OWNER), writes=OWNER)
LOG_IN = Kind("log in", _assign(OWNER), writes=OWNER, body=True)
#: By a form, as the owner of the session. It is not a sign-in if she is signed in already.
LOG_IN_AS_ANN = Kind("log in as ann", _assign(OWNER, lambda value: ANN), writes=OWNER, body=True)
#: By a login key, which does not name an owner.
LOG_IN_BY_KEY = Kind("log in by key", _assign(USER, lambda value: {"id": value}), writes=USER, body=True)
LOG_OUT = Kind("log out", _remove(OWNER))
LOG_OUT_BY_KEY = Kind("log out by key", _remove(USER))
LOG_OUT_IN_EVENT = Kind("log out in an event", _remove(OWNER), event=True)
EDIT_PROFILE = Kind("edit profile", _edit_profile)
READ = Kind("read", _read)
#: Somebody revokes the session by its handle.
REVOKE = Kind("revoke", _nothing, ends=True, act=lambda store, handle: store.end(handle))
#: Time passes until tombstones expire.
PAUSE = Kind("pause", _nothing, act=lambda store, handle: t.cast("t.Any", store.store).pause(PAUSE_TIME))


KINDS = (
    WRITE,
    OTHER,
    COUNTER,
    POP,
    CLEAR,
    CLEAR_AND_WRITE,
    PURGE,
    RENEW,
    SIGN_IN,
    LOG_IN,
    LOG_IN_AS_ANN,
    LOG_IN_BY_KEY,
    LOG_OUT,
    LOG_OUT_BY_KEY,
    EDIT_PROFILE,
    READ,
    REVOKE,
)


#: The data that the session holds when the requests come in.
STARTS: dict[str, dict[str, t.Any]] = {
    "anonymous": {"cart": "old"},
    "signed in": {OWNER: ANN, "cart": "old"},
    "signed in, no more": {OWNER: ANN},
    "signed in by key": {USER: {"id": ANN}, "cart": "old"},
    "signed in by what names nobody": {USER: {"nickname": "annie"}, "cart": "old"},
}
#: The data of the other session, if a browser has two.
PLANTED = {OWNER: "mallory", "cart": "planted"}


class Who(t.NamedTuple):
    """Who is signed in."""

    owner: str | None
    #: By the login key: the id in its value; "somebody" if the value has none; None without a value.
    user: str | None

    @classmethod
    def of(cls, data: t.Mapping[str, t.Any]) -> Who:
        """Who is signed in, by a session's data."""
        user = data.get(USER)
        return cls(data.get(OWNER), None if user is None else user.get("id", "somebody"))

    def signed_in_over(self, before: Who) -> bool:
        """Whether this is a sign-in, if ``before`` was signed in before."""
        return any(now is not None and now != then for now, then in zip(self, before, strict=True))


NOBODY = Who(None, None)


class Browser(t.NamedTuple):
    """What a browser presents with each of its requests."""

    presented: tuple[Token, ...]
    kind: Kind
    #: The sessions of another kind whose credentials it presents.
    old_sessions: tuple[OldSession, ...] = ()

    def claims(self) -> list[Claim]:
        return [Claim(token.issued, token.lifetime) for token in self.presented if token.lifetime]

    def tokens(self) -> list[Token]:
        return list(self.presented)

    def reads_former(self) -> bool:
        return any(token.former for token in self.presented)

    def old(self) -> tuple[OldSession, ...]:
        return self.old_sessions

    def seed(self) -> None:
        return None

    def client(self) -> None:
        return None

    def no_cookie(self) -> str | None:
        return "it is an event" if self.kind.event else None

    def has_body(self) -> bool:
        return self.kind.body

    def may_extend(self) -> bool:
        return True

    def announce(self, signal: NamedSignal, **arguments: object) -> None:
        pass

    def report(self, error: StoreUnavailable) -> None:
        pass


class _Unhurried(Lifecycle):
    """A lifecycle that never waits: the test chooses the order of the requests' steps, so waiting is of no use."""

    def wait(self, seconds: float) -> None:
        pass


class Crash(BaseException):
    """The process was killed."""


class Request:
    """One request and its results."""

    def __init__(self, kind: Kind, number: int, policy: Policy) -> None:
        self.kind = kind
        self.policy = policy
        self.number = number
        self.name = f"{kind}-{number}"
        #: How many operations it has begun.
        self.operations = 0
        #: When it came in.
        self.born = LATER
        self.outcome: Outcome = KEEP
        self.removed: t.Collection[str] = ()
        #: Who was signed in when it first read its session, and when its view had finished.
        self.found = self.who = NOBODY
        #: The data of its session when its view had finished.
        self.data: dict[str, t.Any] = {}
        self.error: SessionError | Crash | None = None

    def __repr__(self) -> str:
        return self.name

    @property
    def sent(self) -> str | None:
        """The handle of the key that was sent to the browser."""
        return self.outcome.key.handle if isinstance(self.outcome, Send) else None

    @property
    def ends(self) -> bool:
        """Whether it ended the session, or signed its owner out."""
        return self.kind.ends or OWNER in self.removed

    @property
    def signs_out(self) -> bool:
        """Whether it ended the session, or signed its user out, by the owner's key or the login key."""
        return self.ends or USER in self.removed

    @property
    def signs_in(self) -> bool:
        """Whether it signed somebody in."""
        return self.who.signed_in_over(NOBODY if self.kind.ends else self.found)

    @property
    def moves(self) -> bool:
        """Whether its session goes on under a new key."""
        return self.renews or self.kind.ends or self.signs_in or (OWNER in self.removed and not self.kind.event)

    @property
    def renews(self) -> bool:
        """Whether it asks for a new key, but does not sign in or out."""
        # If the login key's value does not name a user, a new value may be a sign-in or not: the session is renewed.
        return self.kind.renews or (self.kind.view is _edit_profile and self.who.user == "somebody")

    @property
    def writes(self) -> str | None:
        """The key it wrote, if any."""
        edits = self.kind.view is _edit_profile and self.found.user is not None
        return USER if edits else self.kind.writes

    def __call__(self, store: FaultyStore, handle: str, tokens: tuple[Token, ...], old: tuple[OldSession, ...]) -> None:
        if self.kind.later:
            t.cast("t.Any", store.store).pause(MORE_THAN_UNDER_WAY)
        self.born = store.now()
        try:
            if self.kind.act is not None:
                self.kind.act(store, handle)
            else:
                tokens = () if self.kind.elsewhere else tokens if self.kind.two_cookies else tokens[:1]
                self._serve(_Unhurried(store, self.policy, Browser(tokens, self.kind, old)))
        except (SessionError, Crash) as error:
            self.error = error

    def _serve(self, lifecycle: Lifecycle) -> None:
        session = begin(lifecycle, Session)
        try:
            if self.kind.view is not _purge:  # purge() does not read the session
                self.found = Who.of(session.copy())
            self.removed = self.kind.view(session, self.name)
            self.data = {key: codec.decode(value) for key, value in lifecycle.draft.state.items()}
            self.who = Who.of(self.data)
            lifecycle.commit()
        finally:
            self.outcome = lifecycle.outcome
