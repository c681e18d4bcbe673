"""For the tests of the session: browsers without Flask, on a store that counts its calls."""

from __future__ import annotations

import typing as t
from datetime import timedelta

from blinker import NamedSignal

from flask_sessionstore import Record, Session, SessionKey, SessionStatus, StoreUnavailable
from flask_sessionstore.lifecycle import Lifecycle
from flask_sessionstore.policy import Policy, cookie_lifetime
from flask_sessionstore.sessions import begin, source_of
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.tokens import Claim, Token
from flask_sessionstore.visitor import Delete, Outcome, Send

UNCHANGED, CHANGED = SessionStatus.UNCHANGED, SessionStatus.CHANGED
RENEWED, PURGED = SessionStatus.RENEWED, SessionStatus.PURGED


class CountingStore(MemoryStore):
    """A memory store that records the verbs that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def load(self, key: SessionKey, *, seen: bytes | None = None) -> Record | None:
        self.calls.append("load")
        return super().load(key, seen=seen)

    def save(self, record: Record, ttl: timedelta, *, key: SessionKey | None = None) -> SessionKey:
        self.calls.append("save")
        return super().save(record, ttl, key=key)

    def update(self, key: SessionKey, record: Record, ttl: timedelta, *, replaces: bytes) -> SessionKey:
        self.calls.append("update")
        return super().update(key, record, ttl, replaces=replaces)

    def update_ttl(self, key: SessionKey, ttl: timedelta | None = None) -> tuple[SessionKey, Record]:
        self.calls.append("update_ttl")
        return super().update_ttl(key, ttl)


class Browser:
    """A browser: it sends its token, and keeps the token that it gets."""

    def __init__(self, store: CountingStore, policy: Policy = Policy()) -> None:  # noqa: B008
        self.store = store
        self.policy = policy
        self.token: Token | None = None

    def claims(self) -> list[Claim]:
        return [Claim(token.issued, token.lifetime) for token in self.tokens() if token.lifetime]

    def tokens(self) -> list[Token]:
        return [] if self.token is None else [self.token]

    def reads_former(self) -> bool:
        return self.token is not None and self.token.former

    def old(self) -> tuple[()]:
        return ()

    def seed(self) -> t.Mapping[str, object] | None:
        return None

    def client(self) -> str | None:
        return None

    def no_cookie(self) -> str | None:
        return None

    def has_body(self) -> bool:
        return False

    def may_extend(self) -> bool:
        return True

    def announce(self, signal: NamedSignal, **arguments: object) -> None:
        pass

    def report(self, error: StoreUnavailable) -> None:
        pass

    def open(self) -> Session:
        """The session of a new request."""
        self.store.calls.clear()
        return begin(Lifecycle(self.store, self.policy, self), Session)

    def end(self, session: Session) -> type[Outcome]:
        """The end of the session's request."""
        outcome = t.cast("Lifecycle", source_of(session)).commit()
        if isinstance(outcome, Send):
            self.token = Token(
                key=outcome.key,
                issued=outcome.record.extended_ms // 1000,
                lifetime=cookie_lifetime(outcome.record),
                permanent=outcome.record.permanent,
                seen=outcome.record.revision[:4],
                mark=0,
            )
        elif isinstance(outcome, Delete):
            self.token = None
        return type(outcome)

    def write(self, **values: object) -> None:
        """A whole request that writes."""
        session = self.open()
        session.update(values)
        self.end(session)

    def read(self) -> dict[str, t.Any]:
        """A whole request that reads everything."""
        session = self.open()
        values = session.copy()
        self.end(session)
        return values
