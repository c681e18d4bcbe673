"""Who is signed in, by what a session holds: its owner, and the keys that log-ins are known to write.

Values are compared as they are encoded, and decoded only where they differ. Three sorts tell whether a key has another
value: text (a str, an int, a UUID), a mapping that names somebody (by ``sub``, ``id`` and the like, and by the ``iss``
or ``tid`` that issued it), and all else, such as True.
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
# By what a mapping names somebody, the first that is there; and by what it names who says so.
_NAMES = ("sub", "id", "user_id", "uid", "username", "oid", "email")
_ISSUERS = ("iss", "tid")
_TRUE = codec.encode(True, "")
# How a mapping begins that says who issued it, and not whom it names.
_ISSUED = ("mapping", None)


class Step(enum.IntEnum):
    """What a change of one key, or of all of them, comes to."""

    #: Nobody else is signed in than before.
    NOTHING = 0
    #: The value changed and names nobody, so nobody can tell: the session is renewed, to be safe.
    RENEWS = 1
    SIGNS_IN = 2


def compare(before: bytes | None, after: bytes | None) -> Step:
    """What it means that a login key had one value and has another; None: it was, or is, not there."""
    if before == after:
        return Step.NOTHING
    now = _read(after)
    if now is None:
        return Step.NOTHING
    then = _read(before)
    if now == then:  # who has issued it tells nobody from another
        return Step.RENEWS if now[:2] == _ISSUED else Step.NOTHING
    return Step.RENEWS if then is not None and now[0] == "other" else Step.SIGNS_IN


def steps(policy: Policy, before: State, after: State) -> dict[str, Step]:
    """What the change from one state to another comes to, by each key that is there and says who is signed in."""
    found = {key: compare(before.get(key), after[key]) for key in policy.watched if key in after}
    head = owner_head(policy, after)
    if head in found and (owner := owner_in(policy, after)) is not None:
        if owner != owner_in(policy, before):
            found[head] = Step.SIGNS_IN
        elif found[head] is Step.RENEWS:  # the value does not tell whom it names, but the setting does
            found[head] = Step.NOTHING
    return found


def step(policy: Policy, before: State, after: State) -> Step:
    """What the change from one state to another comes to, by all of them."""
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
    """Whether nobody has been signed out since, if nobody has signed in."""
    return owner_in(policy, before) == owner_in(policy, after) and set(who(policy, before)) <= set(who(policy, after))


def is_affirmed(before: bytes | None, after: bytes | None) -> bool:
    """Whether a login key that is just True was set to True once more: to a log-in that is a log-in."""
    return before == after == _TRUE


def is_nameless(data: bytes | None) -> bool:
    """Whether this is a value other than True that names nobody, so that nobody can tell what a change of it means."""
    read = _read(data)
    return read is not None and (read[0] == "other" or read[:2] == _ISSUED) and data != _TRUE


# -- owners ---------------------------------------------------------------------------------------------------------


def owner_of(value: object) -> str | None:
    """The owner that ``value`` names, as text; None for no owner.

    :raises SessionInsertError: for what is no str, int or UUID, is longer than 255 characters, or has a NUL in it,
        which PostgreSQL's texts cannot hold, or a lone surrogate.
    """
    if value is None:
        return None
    text = _as_text(value)
    if text is not None and len(text) <= _MAX_OWNER and "\0" not in text and is_unicode(text):
        return text
    raise SessionInsertError(
        f"the session's owner must be a str, an int or a UUID, of at most {_MAX_OWNER} characters as text, none of them"
        " NUL",
        path=None,
        type=type(value),
    )


def owner_in(policy: Policy, state: State) -> str | None:
    """Whom a session with this state belongs to; None also if the value cannot be the name of an owner."""
    try:
        return owner_set_in(policy, state)
    except (SessionInsertError, SessionCorrupt):
        return None


def owner_set_in(policy: Policy, state: State) -> str | None:
    """Whom a session with this state belongs to.

    :raises SessionInsertError: if the value cannot be the name of an owner.
    :raises SessionCorrupt: if it cannot be decoded.
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
    """The session's key in whose value the owner is named: the setting as it is, or its part before the first dot."""
    key = policy.owner_key
    return key if key is None or key in state else key.partition(".")[0]


def is_unicode(text: str) -> bool:
    """Whether a text is without lone surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _as_text(value: object) -> str | None:
    if isinstance(value, str):
        return str.__str__(value)
    if not isinstance(value, (int, UUID)) or isinstance(value, bool):
        return None
    try:
        return str(value)
    except ValueError:  # Python refuses to spell out very large integers
        return None


def _read(data: bytes | None) -> tuple[object, ...] | None:
    """Whom an encoded value names, to be compared; None for nobody: no value, None, False, or an empty one."""
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
