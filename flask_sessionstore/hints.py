"""In debug mode: what an application does with its log-in keys that it may not mean, said once each."""

from __future__ import annotations

import collections
import logging
import typing as t

from . import signins
from .policy import Rules
from .sessions import Session

logger = logging.getLogger("flask_sessionstore")

#: What looks like a key that a log-in writes, and is none in the default settings.
ALIKE = frozenset(
    {
        *("email", "account", "account_id", "member", "member_id", "customer", "customer_id", "admin", "is_admin"),
        *("login", "role", "roles", "person", "identity", "current_user", "authenticated", "is_authenticated"),
    }
)
NO_OWNER = (
    "session[{key!r}] says who is signed in, but SESSION_OWNER_KEY does not name it, so find(), revoke_all() and"
    " SESSION_MAX_PER_OWNER know nobody: set SESSION_OWNER_KEY = {key!r}, or a path into it such as {key}.id"
)
_GUEST = (
    "session[{key!r}] comes into a new session in a request without a body, as a guest's number does, and counts as a"
    " sign-in; two first requests at once would be two sessions: take {key!r} out of SESSION_LOGIN_KEYS"
)
_AGAIN = (
    "session[{key!r}] changed in two requests in a row, and the session was renewed each time, since nobody can tell"
    " whom it names: give the mapping an 'id', or take {key!r} out of SESSION_LOGIN_KEYS"
)
LOOKALIKE = (
    "session[{key!r}] looks like a key that a log-in writes, and is none of SESSION_LOGIN_KEYS: if it says who is"
    " signed in, add it there, for the session's key does not change at that log-in"
)


class Hints:
    """Of one application."""

    def __init__(self) -> None:
        self._said: set[str] = set()
        # The handles of sessions that were renewed by a value which names nobody.
        self._renewed: collections.deque[str] = collections.deque(maxlen=100)

    def look(self, session: Session, rules: Rules, has_body: bool) -> t.Callable[[], None]:
        """Look at what a request did, before it is stored. What is returned is to be called when it is."""
        before, after = session._before, session._state
        steps = {key: signins.compare(before.get(key), after.get(key)) for key in rules.login_keys}
        renews = [key for key, step in steps.items() if step is signins.Step.RENEWS]
        for key, step in steps.items():
            if step is signins.Step.SIGNS_IN and signins.owner_in(rules, after) is None:
                self._say(NO_OWNER, key)
                if session._record is None and not has_body:
                    self._say(_GUEST, key)
        if session._record is not None and session._record.state:
            for key in ALIKE.intersection(after).difference(rules.watched, session._record.state):
                self._say(LOOKALIKE, key)
        if renews and session.handle in self._renewed:
            self._say(_AGAIN, renews[0])
        return lambda: self._renewed.append(session.handle or "") if renews else None

    def _say(self, hint: str, key: str) -> None:
        if hint not in self._said:
            self._said.add(hint)
            logger.warning(hint.format(key=key))
