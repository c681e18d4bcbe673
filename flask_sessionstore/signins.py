"""What a sign-in is, and a sign-out: who is signed in, according to a session's owner and the keys that log-ins write.

A draft asks this file at each write; :mod:`.verdicts` decides about a sign-in whose session has gone meanwhile.

Values are compared encoded, and decoded only if their bytes differ. They are of three sorts: text (a str, an int, a
UUID), a mapping that names a user (by ``sub``, ``id`` and the like, and by ``iss`` or ``tid``, the issuer), and others,
such as True. Text and mappings tell whether they name another user; other values do not.
"""

from __future__ import annotations

import enum
import typing as t
from uuid import UUID

from . import codec
from .errors import SessionCorrupt, SessionInsertError
from .policy import Policy

State = t.Mapping[str, bytes]

_MAX_OWNER = 255
# The keys by which a mapping names a user (the first that is there counts), and those by which it names the issuer.
_NAMES = ("sub", "id", "user_id", "uid", "username", "oid", "email")
_ISSUERS = ("iss", "tid")
_TRUE = codec.encode(True, "")
# How _read()'s result begins for a mapping that names its issuer, but not the user.
_ISSUED = ("mapping", None)


class Step(enum.IntEnum):
    """What a change of one key, or of all of them, means."""

    #: Nobody is signed in who was not signed in before.
    NOTHING = 0
    #: The value changed, but does not name a user, so it may be a sign-in: the session is renewed, to be safe.
    RENEWS = 1
    #: Another user is signed in than before.
    SIGNS_IN = 2


def compare(before: bytes | None, after: bytes | None) -> Step:
    """What it means that a login key's value changed from ``before`` to ``after``. None: the key is absent."""
    if before == after:
        return Step.NOTHING
    now = _read(after)
    if now is None:
        return Step.NOTHING
    then = _read(before)
    if now == then:  # the issuer alone does not tell one user from another
        return Step.RENEWS if now[:2] == _ISSUED else Step.NOTHING
    return Step.RENEWS if then is not None and now[0] == "other" else Step.SIGNS_IN


def steps(policy: Policy, before: State, after: State) -> dict[str, Step]:
    """What the change from one state to another means, for each key in ``after`` that says who is signed in."""
    found = {key: compare(before.get(key), after[key]) for key in policy.watched if key in after}
    head = owner_head(policy, after)
    if head in found and (owner := owner_in(policy, after)) is not None:
        if owner != owner_in(policy, before):
            found[head] = Step.SIGNS_IN
        elif found[head] is Step.RENEWS:  # the value names no user by itself, but SESSION_OWNER_KEY finds the owner
            found[head] = Step.NOTHING
    return found


def step(policy: Policy, before: State, after: State) -> Step:
    """What the change from one state to another means, all keys together."""
    return max(steps(policy, before, after).values(), default=Step.NOTHING)


def who(policy: Policy, state: State) -> list[str]:
    """The keys that say that somebody is signed in."""
    return sorted(key for key in policy.watched if _read(state.get(key)) is not None)


def is_somebody(policy: Policy, state: State) -> bool:
    """Whether somebody is signed in."""
    return owner_in(policy, state) is not None or bool(who(policy, state))


def is_same(policy: Policy, before: State, after: State) -> bool:
    """Whether the same person is signed in, or nobody, in both states."""
    return all(before.get(key) == after.get(key) for key in policy.watched) or (
        owner_in(policy, before) == owner_in(policy, after)
        and who(policy, before) == who(policy, after)
        and step(policy, before, after) is Step.NOTHING
    )


def is_signed_in_still(policy: Policy, before: State, after: State) -> bool:
    """Whether everybody who was signed in before is signed in after. Only valid if nobody signed in in between."""
    return owner_in(policy, before) == owner_in(policy, after) and set(who(policy, before)) <= set(who(policy, after))


def is_affirmed(before: bytes | None, after: bytes | None) -> bool:
    """Whether a login key that was True is set to True again. An application does that when a user logs in again."""
    return before == after == _TRUE


def is_nameless(data: bytes | None) -> bool:
    """Whether this is a value, other than True, that does not name a user: then a change of it may be a sign-in."""
    read = _read(data)
    return read is not None and (read[0] == "other" or read[:2] == _ISSUED) and data != _TRUE


# -- owners ---------------------------------------------------------------------------------------------------------


def owner_of(value: object) -> str | None:
    """The owner that ``value`` names, as text; None for no owner.

    :raises SessionInsertError: if it is not a str, int or UUID, is longer than 255 characters, or holds a NUL (which
        PostgreSQL cannot store in texts) or a lone surrogate.
    """
    if value is None:
        return None
    text = _as_text(value)
    if text is not None and len(text) <= _MAX_OWNER and "\0" not in text and is_unicode(text):
        return text
    raise SessionInsertError(
        f"the session's owner must be a str, an int or a UUID, of at most {_MAX_OWNER} characters as text, without NUL"
        f" and lone surrogates; it is of type {type(value).__name__} (SESSION_OWNER_KEY says which value is the owner)",
        path=None,
        type=type(value),
    )


def owner_in(policy: Policy, state: State) -> str | None:
    """The owner of a session with this state; None also if the value is not a valid owner."""
    try:
        return owner_set_in(policy, state)
    except (SessionInsertError, SessionCorrupt):
        return None


def owner_set_in(policy: Policy, state: State) -> str | None:
    """The owner of a session with this state.

    :raises SessionInsertError: if the value is not a valid owner.
    :raises SessionCorrupt: if the value cannot be decoded.
    """
    head = owner_head(policy, state)
    if head is None or head not in state:
        return None
    value = codec.decode(state[head])
    for name in () if head == policy.owner_key else t.cast("str", policy.owner_key).split(".")[1:]:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return owner_of(value)


def owner_head(policy: Policy, state: State) -> str | None:
    """The session's key whose value names the owner: SESSION_OWNER_KEY itself, or its part before the first dot."""
    key = policy.owner_key
    return key if key is None or key in state else key.partition(".")[0]


def is_unicode(text: str) -> bool:
    """Whether a text has no lone surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _as_text(value: object) -> str | None:
    if isinstance(value, str):
        return str.__str__(value)
    if not isinstance(value, (int, UUID)) or isinstance(value, bool):
        return None
    try:
        return str(value)
    except ValueError:  # Python refuses to write very large integers as text
        return None


def _read(data: bytes | None) -> tuple[object, ...] | None:
    """Whom an encoded value names, in a form to be compared; None for nobody: no value, None, False, or empty."""
    if data is None:
        return None
    try:
        value = codec.decode(data)
    except SessionCorrupt:
        return ("other", data)
    text = _as_text(value)
    if text is not None:
        return ("text", text) if text else None
    if not value:
        return None
    if isinstance(value, dict):
        name = next((text for key in _NAMES if (text := _as_text(value.get(key)))), None)
        issuers = tuple(_as_text(value.get(key)) for key in _ISSUERS)
        if name is not None or any(issuers):
            return ("mapping", name, *issuers)
    return ("other", data)
