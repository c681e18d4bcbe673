"""Failures of the store in the log: a line a second at most, however many requests fail."""

from __future__ import annotations

import collections
import contextlib
import logging
import time
import typing as t
from urllib.parse import quote

from flask import has_request_context, request
from flask.wrappers import Request

from .errors import StoreUnavailable
from .stores.pool import PerProcess

if t.TYPE_CHECKING:
    from .stores.watched import StoreCall

logger = logging.getLogger("flask_sessionstore")

# Seconds between two lines about failures that are alike.
_BETWEEN = 1.0
# Seconds without such a failure after which the next one is new: its line has the traceback.
_QUIET = 10.0
# So many kinds of failures are told apart; a store may put anything into a message.
_MOST_KINDS = 32


class Failures:
    """Logs the failures of one application's store.

    Of failures that are alike, the first is logged with its traceback; then one a second, with the number of those that
    were not. All failures to reach the engine are alike.
    """

    def __init__(self) -> None:
        # A fork may come while a thread logs. In the child this thread never ends, and would keep all others silent.
        self._alike: PerProcess[dict[str, _Alike]] = PerProcess(dict)

    def tell(self, error: StoreUnavailable, request: Request | None) -> None:
        """Log a failure, unless one like it was logged just now."""
        known = self._alike.get()
        if len(known) > _MOST_KINDS:
            known.clear()
        kind = "" if error.lost else str(error)
        known.setdefault(kind, _Alike()).tell(error, request)

    def recovered(self) -> None:
        """Log that the engine answers again."""
        alike = self._alike.get().pop("", None)
        more = "" if alike is None else alike.count()
        logger.warning("the session store answers again%s", more)


class _Alike:
    def __init__(self) -> None:
        self._seen_at = float("-inf")
        self._untold: collections.deque[None] = collections.deque()
        # Holds when a failure was logged last. A thread takes it out while it decides and logs; it waits for nobody.
        self._told_at = collections.deque([float("-inf")])

    def tell(self, error: StoreUnavailable, request: Request | None) -> None:
        self._untold.append(None)
        try:
            told_at = self._told_at.pop()
        except IndexError:
            return  # another thread is just logging one
        now = time.monotonic()
        try:
            is_new, self._seen_at = now - self._seen_at > _QUIET, now
            if is_new or now - told_at >= _BETWEEN:
                told_at = now
                with contextlib.suppress(IndexError):  # another thread has just counted it
                    self._untold.pop()
                cause = error.__cause__ if is_new else None
                logger.error("%s%s%s", _described(request), error, self.count(), exc_info=cause)
        finally:
            self._told_at.append(told_at)

    def count(self) -> str:
        """How many failures were not logged; from now on they count as logged."""
        number = 0
        with contextlib.suppress(IndexError):  # other threads may add and count meanwhile
            for number in range(1, len(self._untold) + 1):  # noqa: B007  - used below
                self._untold.pop()
        return f"; {number} more failures since the last line" if number else ""


def slow_call_log(limit: float) -> t.Callable[[StoreCall], None]:
    """A function that logs calls of the store that took longer than ``limit`` seconds. (Failures are logged anyway.)"""

    def log(call: StoreCall) -> None:
        if call.seconds > limit and call.ended != "unavailable":
            where = _described(request_at_hand())
            logger.warning("%sthe session store took %.3f s for %s (%s)", where, call.seconds, call.verb, call.ended)

    return log


def _described(request: Request | None) -> str:
    """Method and path of a request, without its query, which may hold anything; escaped, for they are the client's."""
    return "" if request is None else f"{quote(request.method)} {quote(request.path)}: "


def request_at_hand() -> Request | None:
    """The request that is being handled; None outside of requests."""
    return t.cast("Request", request._get_current_object()) if has_request_context() else None  # type: ignore[attr-defined]
