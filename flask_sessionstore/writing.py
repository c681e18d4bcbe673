"""Writer: makes the records as which a draft is stored, and does each kind of write."""

from __future__ import annotations

import contextlib
import typing as t
from datetime import datetime, timedelta

from .changes import State
from .draft import Draft
from .errors import SessionTooLarge, StoreUnavailable
from .key import SessionKey
from .layout import pack_state
from .policy import Policy
from .record import Kind, Record, largest_keys, new_revision, to_ms
from .signins import owner_in
from .stores.base import OwnerIndex, SessionStore

# Milliseconds after which a write files its session in the owner's list again, as every extension does.
_FILED_FOR = 60_000

_Metadata = tuple[bool, timedelta | None, datetime | None]


class Writer:
    """Writes one draft. Each method tries its write once; :mod:`.contests` handles what others write meanwhile.

    :param client: names the browser and its address.
    """

    def __init__(self, store: SessionStore, policy: Policy, draft: Draft, client: t.Callable[[], str | None]) -> None:
        self.store = store
        self.policy = policy
        self.draft = draft
        self._client = client

    # -- records ---------------------------------------------------------------------------------------------------

    def record(self, state: State, base: Record | None, *, fresh: bool = False) -> Record | None:
        """The record to write now: ``state``, with the metadata of ``base`` where this request did not assign any.

        None if its fixed end has passed.

        :param fresh: it is a new session, not a later revision of ``base``.
        :raises SessionTooLarge: if the state is over the limit, and larger than the state of ``base``.
        """
        self._check_size(state, {} if base is None else base.state)
        draft, policy, now_ms = self.draft, self.policy, int(self.store.now() * 1000)
        kept = None if base is None or draft.changes.cleared else base
        owner = owner_in(policy, state)
        before = draft.owner_before if draft.minded else owner
        permanent, lifetime, deadline = self._metadata(kept, is_anothers=before not in (None, owner))
        if kept is not None and owner == before and not draft.signs_in:
            created_ms, client = kept.created_ms, kept.client
        else:
            created_ms, client = now_ms, self._client() if policy.record_client else None
        end_ms = policy.end_ms(deadline, created_ms)
        if 0 < end_ms <= now_ms:
            return None
        idle_ms = to_ms(policy.idle_of(permanent, lifetime))
        return Record(
            state=state,
            revisions=(new_revision(), *(() if fresh or base is None else base.revisions[:3])),
            owner=owner,
            permanent=permanent,
            lifetime=lifetime,
            deadline=deadline,
            client=client,
            derived=base is not None and base.derived and not (fresh or draft.moves),
            created_ms=created_ms,
            extended_ms=now_ms,
            expires_ms=min(now_ms + idle_ms, end_ms) if end_ms else now_ms + idle_ms,
            idle_ms=idle_ms,
            end_ms=end_ms,
        )

    def _metadata(self, kept: Record | None, *, is_anothers: bool) -> _Metadata:
        """``permanent``, ``lifetime`` and ``deadline``: as assigned, as they were, or as in a new session.

        :param is_anothers: whether ``kept`` belonged to another owner.
        """
        if kept is None:
            before: _Metadata = (self.policy.permanent, None, None)
        elif is_anothers:
            before = (kept.permanent, None, None)  # one user's choice of how long to stay signed in is not the next's
        else:
            before = (kept.permanent, kept.lifetime, kept.deadline)
        assigned = self.draft.changes.metadata
        if not assigned:
            return before
        permanent, lifetime, deadline = before
        return (
            assigned.get("permanent", permanent),
            assigned.get("lifetime", lifetime),
            assigned.get("deadline", deadline),
        )

    def _check_size(self, state: State, before: t.Mapping[str, bytes]) -> None:
        """Refuse growth beyond the limit. A session that is over it already may be made smaller, and may be ended."""
        if before and not self._grows(state, before):
            return  # no need to add up all of it
        limit = self.policy.max_size
        if len(pack_state(state)) <= limit:
            return
        size = size_of(state)
        if size > limit and size > size_of(before):
            largest = largest_keys(state)
            raise SessionTooLarge(
                f"the session is {size} bytes, over SESSION_MAX_SIZE ({limit}); its largest keys are"
                f" {', '.join(map(repr, largest))}",
                size=size,
                limit=limit,
                largest=largest,
            )

    def _grows(self, state: State, before: t.Mapping[str, bytes]) -> bool:
        """Whether ``state`` may be larger than ``before``, in which the changes were made."""
        growth = 0
        for key in self.draft.changes:
            if key in state:
                if key not in before:
                    return True
                growth += len(state[key]) - len(before[key])
        return growth > 0

    # -- writes ----------------------------------------------------------------------------------------------------

    def save(self, record: Record) -> SessionKey:
        """Keep a record under a new key."""
        return self.store.save(record, self.policy.idle(record))

    def update(self, key: SessionKey, record: Record, newest: Record) -> SessionKey:
        """Replace ``newest`` by a record under the same key.

        The owners differ if SESSION_OWNER_KEY was changed, or if a sign-out could not send a cookie.
        """
        ttl = self.policy.idle(record)
        index = None if record.owner == newest.owner else self.store.ability(OwnerIndex)
        if index is None:
            key = self.store.update(key, record, ttl, replaces=newest.revision)
            if record.extended_ms - newest.extended_ms >= _FILED_FOR:
                self._file_anew(key, record)
            return key
        if record.owner is not None:
            index.file(record.owner, key.handle)
        key = self.store.update(key, record, ttl, replaces=newest.revision)
        if newest.owner is not None:
            with contextlib.suppress(StoreUnavailable):  # its entry in the list is pruned later
                index.unfile(newest.owner, key.handle)
        return key

    def extend(self, key: SessionKey, ttl: timedelta | None) -> tuple[SessionKey, Record]:
        """Move only the time when a record expires."""
        key, record = self.store.update_ttl(key, ttl)
        self._file_anew(key, record)
        return key, record

    def _file_anew(self, key: SessionKey, record: Record) -> None:
        """File an extended session again, so that its entry in the owner's list comes back if it was lost."""
        index = None if record.owner is None else self.store.ability(OwnerIndex)
        if record.owner is not None and index is not None:
            with contextlib.suppress(StoreUnavailable):  # the next extension files it again
                index.file(record.owner, key.handle)

    def renew(
        self,
        key: SessionKey,
        record: Record,
        newest: Record,
        kind: Kind,
        *,
        to: SessionKey | None = None,
        any_revision: bool = False,
    ) -> SessionKey:
        """Keep a record under a new key, and replace ``newest`` under the old key by a tombstone.

        :param to: the new key, if the record is stored under it already.
        :param any_revision: replace whatever record is under the old key, not only ``newest``.
        """
        replaces = None if any_revision else newest.revision
        return self.store.renew(
            key, record, self.policy.idle(record), replaces=replaces, kind=kind, to=to, owner=newest.owner
        )


def differs(record: Record, newest: Record, changed: t.Iterable[str]) -> bool:
    """Whether ``record`` differs from ``newest`` in anything but times, so that it has to be written.

    :param changed: the keys whose values may differ, if both have as many.
    """
    state, before = record.state, newest.state
    if len(state) != len(before):
        return True
    for key in changed:
        if state.get(key) != before.get(key):
            return True
    return (
        record.permanent is not newest.permanent
        or record.lifetime != newest.lifetime
        or record.deadline != newest.deadline
        or record.owner != newest.owner
    )


def size_of(state: t.Mapping[str, bytes]) -> int:
    """The size that SESSION_MAX_SIZE limits, in bytes: keys and encoded values."""
    keys = "".join(state)
    return sum(map(len, state.values())) + (len(keys) if keys.isascii() else len(keys.encode()))
