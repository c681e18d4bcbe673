"""Visitor: the sender of a request, usually a browser. What it presented, and what a commit sends back to it."""

from __future__ import annotations

import typing as t

import msgspec
from blinker import NamedSignal

from .errors import StoreUnavailable
from .key import SessionKey
from .record import Record
from .tokens import Claim, Token


class Keep(msgspec.Struct, frozen=True):
    """The browser's cookie stays as it is."""


class Delete(msgspec.Struct, frozen=True):
    """The browser's cookie is to be deleted."""


class Send(msgspec.Struct, frozen=True):
    """A cookie is to be sent to the browser."""

    key: SessionKey
    #: The record that is alive under the key.
    record: Record


#: The result of a commit.
Outcome = Keep | Delete | Send

KEEP, DELETE = Keep(), Delete()


class Old(msgspec.Struct, frozen=True, kw_only=True):
    """A living session of another kind."""

    record: Record
    """The record to write when it is imported."""
    ends_at: float | None
    """When its credential expires, in seconds since 1970; None: it never expires by itself."""
    kept_as: str
    """How it was stored: "pickle", "msgpack", "json", "cookie", "record"."""


class OldSession(t.Protocol):
    """A session of another kind, which may exist: the browser presented its credential."""

    @property
    def key(self) -> SessionKey:
        """The key under which it goes on in this store."""

    @property
    def is_derived(self) -> bool:
        """Whether that key is derived from the credential. If not, the key is the credential itself."""

    @property
    def mark(self) -> str:
        """The name of the mark that says that it was imported."""

    def find(self, now: float) -> Old | None:
        """The session, if it is alive; otherwise None.

        :param now: in seconds since 1970.
        :raises StoreUnavailable, SessionCorrupt:
        """

    def remove(self) -> None:
        """Remove it from its old place, if that is wanted.

        :raises StoreUnavailable:
        """


class Visitor(t.Protocol):
    """The sender of a request: what it presented, and what can be sent back."""

    def claims(self) -> list[Claim]:
        """The claims of its tokens that have an end, not verified."""

    def tokens(self) -> list[Token]:
        """Its tokens that are verified, each with a different session key."""

    def reads_former(self) -> bool:
        """Whether former secrets are still read, so that a token may have been made under one of them."""

    def old(self) -> t.Sequence[OldSession]:
        """The sessions of other kinds whose credentials were presented."""

    def seed(self) -> t.Mapping[str, object] | None:
        """The data with which a new session starts, if another session interface kept any."""

    def client(self) -> str | None:
        """The browser and its address, for the record of a sign-in."""

    def has_body(self) -> bool:
        """Whether the request has a body, as a request has that a form sends."""

    def no_cookie(self) -> str | None:
        """The reason why a cookie cannot be sent; None as long as it can be sent."""

    def may_extend(self) -> bool:
        """Whether the response may carry a cookie that only extends the session. Valid once there is a response."""

    def announce(self, signal: NamedSignal, **arguments: t.Any) -> None:
        """Send a signal in the name of the application."""

    def report(self, error: StoreUnavailable) -> None:
        """Log that the store has failed."""
