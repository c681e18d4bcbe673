"""Ends many sessions at once, for ``flask sessions revoke``; or only counts them."""

from __future__ import annotations

import typing as t

from ..errors import SessionCorrupt
from ..stores.base import ServerSideStore, SessionStore
from . import survey
from .survey import Found


def is_there(store: ServerSideStore, handle: str) -> bool:
    """Whether there is a session to end under this handle, or one under which it goes on."""
    try:
        return any(store.info(name) is not None for name in (handle, *store.successors(handle)))
    except SessionCorrupt:
        return True


def all_but(store: SessionStore, kept: str | None) -> t.Iterator[Found]:
    """All living sessions and damaged records, without the one that is kept."""
    names = names_of(store, kept)
    return (found for found in survey.living(store) if found.handle not in names)


def end_all(store: SessionStore, end: t.Callable[[str], bool], kept: str | None) -> t.Iterator[int]:
    """End all sessions but one, also those that are renewed meanwhile, and yield for each whether it ended: 1 or 0.

    :param end: ends the session under a handle; returns False if there is none.
    :param kept: the handle of the session that is kept, also if it is renewed meanwhile.
    """
    began_ms = survey.now_ms_of(store)
    names = names_of(store, kept)
    yield from (int(end(found.handle)) for found in survey.scan(store) if found.handle not in names)
    late = 1
    while late:
        late, names = 0, names_of(store, kept)
        for found in survey.scan(store):
            if found.handle not in names and _is_older(found, began_ms):
                ended = int(end(found.handle))
                late += ended
                yield ended


def names_of(store: SessionStore, kept: str | None) -> set[str]:
    """The handles that a session had, has, and had meanwhile."""
    if kept is None or not isinstance(store, ServerSideStore):
        return set()
    return {kept, *store.successors(kept)}


def _is_older(found: Found, than_ms: int) -> bool:
    """Whether a session was made before a time and lives. A renewed session keeps the time when it was made, and the
    first scan may have missed it under its new handle.
    """
    return found.record is not None and found.record.created_ms < than_ms < found.record.expires_ms
