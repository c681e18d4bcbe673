"""What is risky about an application's store, and about what is in it: for ``flask sessions check``."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import itertools
import typing as t
from datetime import timedelta

from flask import Flask

from .. import hints, settings, signins
from ..errors import ConfigurationError, SessionCorrupt, SessionError
from ..layout import expires_ms_of, pack_tombstone, revision_of, unpack
from ..policy import Policy
from ..record import Record, Tombstone, new_revision, to_ms
from ..stores.base import Scans, ServerSideStore, SessionStore, Sweeps
from .failures import explained
from .findings import Finding, error_that, note_that, warning_that

# How many sessions are read to see what the application does.
_SAMPLE = 1000
# The name of a note about the application that ran the check last, and how long the note stands.
_NOTE, _NOTE_TIME = hashlib.sha256(b"flask_sessionstore: who keeps sessions here").hexdigest(), timedelta(days=30)
# A clean-up once a day is often enough.
_CLEANED = timedelta(days=1)


def of_store(app: Flask, store: SessionStore) -> list[Finding]:
    """Whether the store can keep sessions now, and what it finds risky itself."""
    try:
        store.probe()
        return [warning_that(risk) for risk in store.risks()]
    except SessionError as error:
        return [error_that(f"The store cannot be used: {explained(error, app)}.")]


def of_sessions(app: Flask, store: SessionStore, policy: Policy) -> t.Iterator[Finding]:
    """What a sample of the sessions shows: how log-ins are written, what is left to clean up, and other applications.

    If there are sessions, leaves a note there about this application.
    """
    try:
        yield from _log_ins(store, policy)
        yield from _cleaning(store, policy)
        yield from _neighbours(app, store)
    except SessionError as error:
        yield error_that(f"The sessions cannot be read: {explained(error, app)}.")


def _log_ins(store: SessionStore, policy: Policy) -> t.Iterator[Finding]:
    """What a sample of the sessions in the store shows about the application's log-in."""
    used: dict[str, str] = {}
    for record in _sample(store):
        for hint, key in _hints_of(policy, record.state):
            used.setdefault(hint, key)
    for hint, key in used.items():
        yield warning_that(f"{hint.format(key=key)}.")


def _hints_of(policy: Policy, state: t.Mapping[str, bytes]) -> t.Iterator[tuple[str, str]]:
    keys = signins.who(policy, state)
    if keys and hints.names_no_owner(policy, state):
        yield hints.NO_OWNER, keys[0]
    for key in keys if signins.owner_in(policy, state) is None else ():
        if signins.is_nameless(state[key]):
            yield hints.NAMELESS, key
    if not signins.is_somebody(policy, state):  # otherwise a log-in has changed the session key
        for key in hints.looks_alike(policy, state.keys()):
            yield hints.LOOKALIKE, key


def _sample(store: SessionStore) -> t.Iterator[Record]:
    for handle, data in _first(store):
        with contextlib.suppress(SessionCorrupt):
            found = unpack(data, handle)
            if isinstance(found, Record):
                yield found


def _first(store: SessionStore) -> t.Iterator[tuple[str, bytes]]:
    """What is under the first handles that the store lists, if it can."""
    scans = store.ability(Scans)
    for handle, data, _ in itertools.islice(scans.scan(), _SAMPLE) if scans else ():
        if data is not None:
            yield handle, data


def _neighbours(app: Flask, store: SessionStore) -> t.Iterator[Finding]:
    """Whether an application with another secret ran the last check on sessions with the same prefix."""
    marks = _marks_of(app)
    if not isinstance(store, ServerSideStore) or not marks or next(_sample(store), None) is None:
        return  # do not create a folder or table for a note alone: the check may run as another user
    data, found = store.read(_NOTE), None
    with contextlib.suppress(SessionCorrupt):
        found = None if data is None else unpack(data, _NOTE)
    _leave_note(store, marks[0], before=data)
    if isinstance(found, Tombstone) and found.before not in marks:
        yield warning_that(
            f'An application with another SECRET_KEY also keeps sessions under the prefix "{store.prefix}" (or this'
            " application's SECRET_KEY has changed). To find or end the sessions of an owner then also reaches the"
            " other application's owner of the same name: give each application a SESSION_KEY_PREFIX of its own."
        )


def _marks_of(app: Flask) -> list[bytes]:
    try:
        return [_mark_of(secret) for secret in settings.secrets(app)]
    except ConfigurationError:
        return []  # of_secrets reports it


def _leave_note(store: ServerSideStore, mark: bytes, before: bytes | None) -> None:
    """Leave a tombstone under a name that no session has: commands do not show it, and it expires by itself."""
    now_ms = int(store.now() * 1000)
    ends_ms = now_ms + to_ms(_NOTE_TIME)
    note = Tombstone(kind="ended", revision=new_revision(), left_ms=now_ms, expires_ms=ends_ms, before=mark)
    data = pack_tombstone(note, _NOTE)
    if before is None or not store.swap(_NOTE, data, _NOTE_TIME, replaces=revision_of(before)):
        store.add(_NOTE, data, _NOTE_TIME)


def _mark_of(secret: str | bytes) -> bytes:
    """Four bytes by which a secret can be recognised, but not found out."""
    return hmac.digest(secret.encode() if isinstance(secret, str) else secret, _NOTE.encode(), "sha256")[:4]


def _cleaning(store: SessionStore, policy: Policy) -> t.Iterator[Finding]:
    """Whether anything removes expired sessions, if requests are told not to."""
    sweeps = store.ability(Sweeps)
    if policy.sweep_interval is not None or sweeps is None or type(sweeps).sweep is Sweeps.sweep:
        return
    past_ms = int(store.now() * 1000) - to_ms(_CLEANED)
    old = sum(0 < (expires_ms_of(data) or 0) < past_ms for _, data in _first(store))
    if old:
        yield warning_that(
            f"Nothing removes expired sessions: SESSION_SWEEP_INTERVAL is None, and of the first {_SAMPLE} sessions"
            f" {old} expired more than a day ago: let cron run 'flask sessions cleanup', or remove that setting."
        )
    else:
        yield note_that(
            "SESSION_SWEEP_INTERVAL is None, so requests do not remove expired sessions: make sure that cron runs"
            " 'flask sessions cleanup'."
        )
