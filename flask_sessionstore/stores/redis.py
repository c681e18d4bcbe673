"""RedisStore: sessions in Redis, Valkey, or whatever speaks their protocol.

A record is one string under ``<prefix><handle>``, with the engine's expiry as the broom. A read is one GET, a new
session one ``SET NX``, a compare-and-set one script on the server; each is one round trip on one key, so that a
cluster can do it.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import typing as t
from datetime import timedelta

import redis

from ..errors import ConfigurationError, SessionGone, StoreFull, StoreUnavailable
from ..key import SessionKey
from ..record import FORMAT, HEADER_SIZE, TOMBSTONE_TIME, Record, Tombstone, pack_tombstone, to_ms, unpack
from .base import ServerSideStore
from .redis_clients import Cluster, Server, execute_commands
from .redis_urls import connect

logger = logging.getLogger("flask_sessionstore")

# Kinds of tombstones, as they stand in the second byte of their bytes (see record.py).
_ENDED, _RENEWED = 1, 3

# Lua counts from one: the revision stands at 3 to 10, the times at 35, their second at 43 (see record.py).
_EXPIRED = f"string.byte(head) == {FORMAT} and #head >= {HEADER_SIZE} and struct.unpack('>I8', head, 43) <= now"

#: KEYS: name. ARGV: revision to replace or '', data, time to live in ms, now in ms.
_SWAP = f"""
local head, now = redis.call('GETRANGE', KEYS[1], 0, {HEADER_SIZE - 1}), tonumber(ARGV[4])
if (#head == 0 and redis.call('EXISTS', KEYS[1]) == 0) or ({_EXPIRED}) then return 0 end
if ARGV[1] ~= '' and string.sub(head, 3, 10) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
"""

#: KEYS: name. ARGV: idle lifetime in ms or '', now in ms. Returns what stood there.
_EXTEND = f"""
local head, now = redis.call('GET', KEYS[1]), tonumber(ARGV[2])
if not head or ({_EXPIRED}) then return false end
if string.byte(head) ~= {FORMAT} or #head < {HEADER_SIZE} or string.byte(head, 2) ~= 0 then return head end
local expires = now + (tonumber(ARGV[1]) or struct.unpack('>I8', head, 59))
local last = struct.unpack('>I8', head, 67)
if last > 0 and last < expires then expires = last end
redis.call('SETRANGE', KEYS[1], 34, struct.pack('>I8I8', now, expires))
redis.call('PEXPIRE', KEYS[1], math.max(expires - now, 1))
return head
"""

# A tombstone that stands gets the end that it has once more, for a WAIT asks only for what its own connection wrote.
#: KEYS: name. ARGV: tombstone, its time to live in ms, now in ms. Returns the tombstone that stood there, if any.
_END = f"""
local head, now = redis.call('GETRANGE', KEYS[1], 0, {HEADER_SIZE + 31}), tonumber(ARGV[3])
if (#head == 0 and redis.call('EXISTS', KEYS[1]) == 0) or ({_EXPIRED}) then return false end
local kind = #head >= {HEADER_SIZE} and string.byte(head) == {FORMAT} and string.byte(head, 2) or 0
if kind >= 1 and kind <= 3 then
    local left = redis.call('PTTL', KEYS[1])
    if left > 0 then redis.call('PEXPIRE', KEYS[1], left) end
    return head
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return false
"""


class Client(t.Protocol):
    """What this store asks of a client."""

    def execute_command(self, *args: t.Any) -> t.Any:
        """Send one command, return its reply as bytes."""


class RedisStore(ServerSideStore):
    """Sessions in Redis.

    :param client: any client of redis-py: ``Redis``, ``RedisCluster``, a ``Sentinel``'s ``master_for``. It keeps its
        own time-outs and retries (redis-py's defaults wait seconds for a dead server), and is never closed here.
    :param prefix: put before every handle.
    :param wait_replicas: how many replicas are to confirm the end or the renewal of a session. Without them, an end
        is a ``StoreUnavailable``, though the primary has done it, and a renewal a logged warning.
    :param wait_timeout: how long to wait for them, in seconds; shorter than the client's own time-out.
    :raises ConfigurationError: if the client decodes its replies: records are bytes; if it cannot wait for replicas.
    """

    def __init__(
        self, client: Client, *, prefix: str = "session:", wait_replicas: int = 0, wait_timeout: float = 1.0
    ) -> None:
        super().__init__(prefix=prefix)
        encoder = getattr(client, "get_encoder", lambda: None)()
        if getattr(encoder, "decode_responses", False):
            raise ConfigurationError(
                "RedisStore needs a client made without decode_responses=True", key="SESSION_STORE"
            )
        if wait_replicas and not isinstance(client, (redis.Redis, Server, Cluster)):
            raise ConfigurationError(
                f"wait_replicas needs a URL or a redis.Redis: {type(client).__name__} may wait on another connection"
                " than it wrote on",
                key="SESSION_STORE_OPTIONS",
            )
        if wait_replicas < 0 or wait_timeout < 0.001:  # 0 would be for ever
            raise ConfigurationError("wait_replicas or wait_timeout is too small", key="SESSION_STORE_OPTIONS")
        self.client = client
        self.wait_replicas, self.wait_timeout = wait_replicas, wait_timeout

    @classmethod
    def from_url(cls, url: str, **options: t.Any) -> t.Self:
        """``redis://[[user]:password@]host[:port][/database]``, ``rediss://`` (TLS), ``redis+unix:///path?db=0``;
        ``redis+sentinel://[[user]:password@]host[:port],host.../service[/database]``;
        ``redis+cluster://[[user]:password@]host[:port],host...``; these two with ``rediss`` (TLS); all with ``valkey``.
        redis-py's own URL arguments may follow (``?socket_timeout=5``).

        Each thread keeps one connection (to each node of a cluster). One that was lost is made again once, to whatever
        is the primary by then.

        :raises ConfigurationError: if the URL names no server, or something else in it cannot be used.
        """
        try:
            client = connect(url)
        except ConfigurationError:
            raise
        except (ValueError, TypeError, AttributeError) as error:
            # A ValueError may quote the part of the URL that it is about, and that may be the password.
            why = str(error) if isinstance(error, TypeError) else "percent-encode what is special in a password"
            raise ConfigurationError(f"SESSION_STORE: redis-py refuses the URL ({why})", key="SESSION_STORE") from None
        return cls(client, **options)

    # -- the four primitives ---------------------------------------------------------------------------------------

    def read(self, handle: str) -> bytes | None:
        return t.cast("bytes | None", self._call("GET", self.prefix + handle))

    def add(self, handle: str, data: bytes, ttl: timedelta) -> bool:
        return bool(self._call("SET", self.prefix + handle, data, "PX", to_ms(ttl), "NX"))

    def swap(self, handle: str, data: bytes, ttl: timedelta, *, replaces: bytes | None) -> bool:
        return bool(self._run(_SWAP, handle, replaces or b"", data, to_ms(ttl), self._now_ms(), kind=data[1]))

    def drop(self, handle: str) -> None:
        self._call("DEL", self.prefix + handle, kind=_ENDED)

    # -- verbs in one round trip -----------------------------------------------------------------------------------

    def update_ttl(self, key: SessionKey, ttl: timedelta | None = None) -> tuple[SessionKey, Record]:
        now_ms = self._now_ms()
        data = self._run(_EXTEND, key.handle, b"" if ttl is None else to_ms(ttl), now_ms)
        found = None if data is None else unpack(data)
        if not isinstance(found, Record):
            raise SessionGone("the session ended", kind=found.kind if found else None)
        return key, found.extended(now_ms, ttl)

    def delete(self, key: SessionKey, *, replaces: bytes | None = None, emptied: bool = False) -> None:
        if replaces is None:
            with contextlib.suppress(StoreFull):
                self._end_at_once(key.handle, "emptied" if emptied else "ended")
                return
        super().delete(key, replaces=replaces, emptied=emptied)

    def _end_at_once(self, handle: str, kind: str) -> None:
        tombstone = self._tombstone(kind)
        data = self._run(_END, handle, pack_tombstone(tombstone), to_ms(TOMBSTONE_TIME), self._now_ms(), kind=_ENDED)
        found = None if data is None else unpack(data)
        if isinstance(found, Tombstone) and found.successor is not None:
            self._end(found.successor, kind=kind)

    def after_fork(self) -> None:
        if isinstance(self.client, (Server, Cluster)):
            self.client.forget()

    # -- how ------------------------------------------------------------------------------------------------------

    def _run(self, script: str, handle: str, *args: t.Any, kind: int = 0) -> t.Any:
        """Run a script by its digest; by its text where the server does not know it (yet, or after a restart)."""
        try:
            return self._call("EVALSHA", _DIGESTS[script], 1, self.prefix + handle, *args, kind=kind)
        except StoreUnavailable as error:
            if not isinstance(error.__cause__, redis.exceptions.NoScriptError):
                raise
        return self._call("EVAL", script, 1, self.prefix + handle, *args, kind=kind)

    def _call(self, *command: t.Any, kind: int = 0) -> t.Any:
        """The one place where redis-py's exceptions are translated.

        :param kind: of the tombstone that the command leaves; 0: none.
        """
        try:
            if kind and self.wait_replicas:
                return self._call_and_wait(command, kind)
            return self.client.execute_command(*command)
        except redis.exceptions.OutOfMemoryError as error:
            raise StoreFull("Redis has no memory left") from error
        except redis.exceptions.ResponseError as error:
            if "OOM " in str(error):  # from within a script
                raise StoreFull("Redis has no memory left") from error
            raise StoreUnavailable("Redis refused a command") from error
        except redis.exceptions.TimeoutError as error:
            raise StoreUnavailable("Redis did not answer in time") from error
        except (redis.exceptions.RedisError, redis.exceptions.RedisClusterException, OSError) as error:
            raise StoreUnavailable("Redis cannot be reached") from error

    def _call_and_wait(self, command: tuple[t.Any, ...], kind: int) -> t.Any:
        """Leave a tombstone, and have the replicas confirm it.

        Whoever ended a session has to know that a failover may bring it back. A renewal is only logged: to refuse what
        has been done would cost the visitor the new key, and so the session.
        """
        wait = ("WAIT", self.wait_replicas, int(self.wait_timeout * 1000))
        reply, confirmed = execute_commands(self.client, command, wait)
        if confirmed >= self.wait_replicas or reply == 0:  # that is, nothing was there to end
            return reply
        if kind != _RENEWED:
            raise StoreUnavailable("the session has ended, but too few replicas confirm it: a failover may undo it")
        logger.warning("too few replicas confirm the renewal of a session: a failover may undo it")
        return reply


_DIGESTS = {
    script: hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest() for script in (_SWAP, _EXTEND, _END)
}
