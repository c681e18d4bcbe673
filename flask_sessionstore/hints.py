"""Hints in debug mode, each logged once: what an application does with its login keys that it may not intend.

``flask sessions check`` gives the same hints about the sessions that it finds in the store.
"""

from __future__ import annotations

import logging
import typing as t

from . import signins
from .draft import Draft, SessionStatus
from .policy import Policy

logger = logging.getLogger("flask_sessionstore")

#: Keys that look as if a log-in writes them, but are not in the default settings.
ALIKE = frozenset(
    {
        *("email", "account", "account_id", "member", "member_id", "customer", "customer_id", "admin", "is_admin"),
        *("login", "role", "roles", "person", "identity", "current_user", "authenticated", "is_authenticated"),
    }
)
NO_OWNER = (
    "session[{key!r}] says that somebody is signed in, but SESSION_OWNER_KEY does not say who, so find(), revoke_all()"
    " and SESSION_MAX_PER_OWNER do not find this session: set SESSION_OWNER_KEY to the key that holds the user's id, or"
    " to a path to it such as '{key}.id'"
)
_GUEST = (
    "session[{key!r}] was set in a new session by a request without a body, and counts as a sign-in; if the value is"
    " the number of a guest, take {key!r} out of SESSION_LOGIN_KEYS: otherwise a guest's first two requests, sent at"
    " once, make two sessions"
)
_AGAIN = (
    "session[{key!r}] changed in two requests in a row, and the session was renewed each time, since the value does not"
    " say which user it names: give it an 'id', or take {key!r} out of SESSION_LOGIN_KEYS"
)
NAMELESS = (
    "session[{key!r}] holds a value that does not say which user it names, so the session is renewed whenever the value"
    " changes: give it an 'id', or take {key!r} out of SESSION_LOGIN_KEYS"
)
LOOKALIKE = (
    "session[{key!r}] looks like a key that a log-in writes, but is not in SESSION_LOGIN_KEYS: if it says who is"
    " signed in, add it there; without it the session key does not change at that log-in"
)
_MOST_HANDLES = 100


class Hints:
    """The hints of one application."""

    def __init__(self) -> None:
        self._said: set[str] = set()
        # The handles of sessions that their last request renewed by a value which names nobody, oldest first.
        self._renewed: dict[str | None, None] = {}

    def look(self, draft: Draft, handle: str | None, has_body: bool) -> t.Callable[[str | None], None]:
        """Look at what a request did, before its session is stored.

        :param handle: the session's handle before it is stored.
        :return: to be called once the session is stored, with the handle it has then.
        """
        status, policy, base = draft.status(), draft.policy, draft.base  # status() notices changes within values
        steps = sorted(signins.steps(policy, draft.compared_with, draft.state).items())
        for key in (key for key, step in steps if step is signins.Step.SIGNS_IN):
            if names_no_owner(policy, draft.state):
                self._say(NO_OWNER, key)
            if base is None and not has_body and key != signins.owner_head(policy, draft.state):
                self._say(_GUEST, key)
        if status is not SessionStatus.RENEWED and base is not None and base.state:
            for key in looks_alike(policy, draft.state.keys() - base.state.keys()):
                self._say(LOOKALIKE, key)
        return self._look_for_another(handle, [key for key, step in steps if step is signins.Step.RENEWS])

    def _look_for_another(self, handle: str | None, renews: list[str]) -> t.Callable[[str | None], None]:
        was_renewed = handle in self._renewed
        self._renewed.pop(handle, None)
        if renews and was_renewed:
            self._say(_AGAIN, renews[0])
        return self._note if renews else lambda handle: None

    def _note(self, handle: str | None) -> None:
        self._renewed[handle] = None
        for old in list(self._renewed)[:-_MOST_HANDLES]:
            self._renewed.pop(old, None)

    def _say(self, hint: str, key: str) -> None:
        if hint not in self._said:
            self._said.add(hint)
            logger.warning(hint.format(key=key))


def names_no_owner(policy: Policy, state: signins.State) -> bool:
    """Whether a session has no owner because SESSION_OWNER_KEY does not name any of the keys that log-ins write."""
    head = signins.owner_head(policy, state)
    return head is not None and head not in policy.login_keys and signins.owner_in(policy, state) is None


def looks_alike(policy: Policy, keys: t.Collection[str]) -> list[str]:
    """Those of ``keys`` that look as if a log-in writes them, though the settings do not name them."""
    return sorted(ALIKE.intersection(keys).difference(policy.watched))
