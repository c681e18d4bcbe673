"""Whoever a request is from: what came with it, and what a commit says is to be sent back."""

from __future__ import annotations

import typing as t

import msgspec
from blinker import NamedSignal

from .key import SessionKey
from .record import Record
from .tokens import Claim, Token


class Keep(msgspec.Struct, frozen=True):
    """The browser's cookie stays as it is."""


class Delete(msgspec.Struct, frozen=True):
    """The browser's cookie is to be deleted."""


class Send(msgspec.Struct, frozen=True):
    """The browser is to be sent a cookie."""

    key: SessionKey
    #: What was found alive under it.
    record: Record


#: What a commit came to.
Outcome = Keep | Delete | Send

KEEP, DELETE = Keep(), Delete()


class Old(msgspec.Struct, frozen=True, kw_only=True):
    """A living session of another kind."""

    #: What it comes to here, not written yet.
    record: Record
    #: When its credential is good for nothing any more, in seconds since 1970; None: never by itself.
    ends_at: float | None
    #: How it was kept: "pickle", "msgpack", "json", "cookie", "record".
    kept_as: str


class OldSession(t.Protocol):
    """A session of another kind that may be there: its credential was presented."""

    @property
    def key(self) -> SessionKey:
        """Under which it goes on here."""

    @property
    def is_derived(self) -> bool:
        """Whether that key is derived from the credential, and not the credential itself."""

    @property
    def mark(self) -> str:
        """The name of the mark that says that it was imported."""

    def find(self, now: float) -> Old | None:
        """What there is; None if none is alive.

        :param now: in seconds since 1970.
        :raises StoreUnavailable, SessionCorrupt:
        """

    def remove(self) -> None:
        """Remove it where it was, if that is wanted.

        :raises StoreUnavailable:
        """


class Visitor(t.Protocol):
    """Whoever the request is from: what came with it, and what can be sent back."""

    def claims(self) -> list[Claim]:
        """Tokens as they read, unverified."""

    def tokens(self) -> list[Token]:
        """Tokens whose signature holds, under different keys."""

    def reads_former(self) -> bool:
        """Whether there are former secrets: a token may have been made under one of them."""

    def old(self) -> t.Sequence[OldSession]:
        """The sessions of other kinds whose credentials were presented."""

    def seed(self) -> t.Mapping[str, object] | None:
        """Data to start a new session with."""

    def client(self) -> str | None:
        """Which browser it is, and where."""

    def has_body(self) -> bool:
        """Whether the request has a body, as one has that was sent by a form."""

    def no_cookie(self) -> str | None:
        """Why no cookie can be sent; None as long as one can."""

    def may_extend(self) -> bool:
        """Whether the response may carry a cookie that does nothing but extend."""

    def announce(self, signal: NamedSignal, **arguments: t.Any) -> None:
        """Send a signal of the application's."""
