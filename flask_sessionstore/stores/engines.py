"""What the stores share: how long they wait for a server, when they send a command again, and when they give up.

A write may be sent twice. A connection can be lost after the server has done the write and before the reply arrives.
Then the store sends the write once more, over another connection, and may meet its own write. That is safe: every
write carries a new revision, so a store recognises its own write by its revision, and reports success.

A command that was not answered in time is not sent again, since the visitor would wait twice as long.
"""

from __future__ import annotations

from ..errors import StoreUnavailable

#: Seconds that a store made from a URL waits for a connection, and for a reply.
CONNECT_TIMEOUT, TIMEOUT = 1, 2
#: Seconds after which an operation on MongoDB or DynamoDB sends nothing again. (Other clients tell a time-out from a
#: lost connection.)
PATIENCE = 1.0
#: If a write loses this often in a row, other writers are not the reason, and something else is wrong.
MAX_LOSSES = 100


def too_busy() -> StoreUnavailable:
    """The error for a write that lost :data:`MAX_LOSSES` times in a row."""
    return StoreUnavailable("the session changes faster than it can be written; try again")
