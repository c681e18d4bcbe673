"""Whoever a request is from: what came with it, and what a commit says is to be sent back."""

from __future__ import annotations

import typing as t

import msgspec
from blinker import NamedSignal

from .key import Claim, SessionKey, Token
from .record import Record


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


class Visitor(t.Protocol):
    """Whoever the request is from: what came with it, and what can be sent back."""

    def claims(self) -> list[Claim]:
        """Tokens as they read, unverified."""

    def tokens(self) -> list[Token]:
        """Tokens whose signature holds, under different keys."""

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
