"""RedisStore: sessions in Redis, Valkey, or whatever speaks their protocol.

A record is one string under ``<prefix><handle>``, with the engine's expiry as the broom. A read is one GET, a new
session one ``SET NX``, a compare-and-set one script on the server; each is one round trip on one key, so that a
cluster can do it.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import typing as t
from datetime import timedelta
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ..errors import ConfigurationError, SessionGone, StoreFull, StoreUnavailable
from ..key import SessionKey
from ..record import FORMAT, HEADER_SIZE, TOMBSTONE_TIME, Record, Tombstone, pack_tombstone, to_ms, unpack
from .base import ServerSideStore

#: Seconds to wait for a connection, and for an answer, where the URL says nothing else.
CONNECT_TIMEOUT, TIMEOUT = 1.0, 2.0

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

#: KEYS: name. ARGV: tombstone, its time to live in ms, now in ms. Returns the tombstone that stood there, if any.
_END = f"""
local head, now = redis.call('GETRANGE', KEYS[1], 0, {HEADER_SIZE + 31}), tonumber(ARGV[3])
if (#head == 0 and redis.call('EXISTS', KEYS[1]) == 0) or ({_EXPIRED}) then return false end
local kind = #head >= {HEADER_SIZE} and string.byte(head) == {FORMAT} and string.byte(head, 2) or 0
if kind >= 1 and kind <= 3 then return head end
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
        own time-outs and
        retries (redis-py's defaults wait seconds for a dead server), and is never closed here.
    :param prefix: put before every handle.
    :raises ConfigurationError: if the client decodes its replies: records are bytes.
    """

    def __init__(self, client: Client, *, prefix: str = "session:") -> None:
        super().__init__(prefix=prefix)
        encoder = getattr(client, "get_encoder", lambda: None)()
        if getattr(encoder, "decode_responses", False):
            raise ConfigurationError(
                "RedisStore needs a client made without decode_responses=True", key="SESSION_STORE"
            )
        self.client = client

    @classmethod
    def from_url(cls, url: str, **options: t.Any) -> t.Self:
        """``redis://[[user]:password@]host[:port][/database]``, ``rediss://`` (TLS), ``redis+unix:///path?db=0``, ``valkey://``,
        ``valkeys://``. redis-py's own URL arguments may follow (``?socket_timeout=5``).

        Each thread keeps one connection. A connection that was lost is made again once.

        :raises ConfigurationError: if the URL names no server, or something else in it cannot be used.
        """
        scheme, _, rest = url.partition("://")
        scheme = {"redis+unix": "unix", "valkey": "redis", "valkeys": "rediss"}.get(scheme, scheme)
        try:
            _check_server(url, scheme)
            pool = redis.ConnectionPool.from_url(
                f"{scheme}://{rest}",
                **{"socket_connect_timeout": CONNECT_TIMEOUT} if scheme != "unix" else {},
                socket_timeout=TIMEOUT,
                max_connections=2**31,  # as many as there are threads
                retry=Retry(NoBackoff(), 0),
            )
            pool.make_connection()  # connects to nothing, but refuses arguments that it does not know
        except ConfigurationError:
            raise
        except (ValueError, TypeError, AttributeError) as error:
            # A ValueError may quote the part of the URL that it is about, and that may be the password.
            why = str(error) if isinstance(error, TypeError) else "percent-encode what is special in a password"
            raise ConfigurationError(f"SESSION_STORE: redis-py refuses the URL ({why})", key="SESSION_STORE") from None
        return cls(_ConnectionPerThread(pool), **options)

    # -- the four primitives ---------------------------------------------------------------------------------------

    def read(self, handle: str) -> bytes | None:
        return t.cast("bytes | None", self._call("GET", self.prefix + handle))

    def add(self, handle: str, data: bytes, ttl: timedelta) -> bool:
        return bool(self._call("SET", self.prefix + handle, data, "PX", to_ms(ttl), "NX"))

    def swap(self, handle: str, data: bytes, ttl: timedelta, *, replaces: bytes | None) -> bool:
        return bool(self._run(_SWAP, handle, replaces or b"", data, to_ms(ttl), self._now_ms()))

    def drop(self, handle: str) -> None:
        self._call("DEL", self.prefix + handle)

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
        data = self._run(_END, handle, pack_tombstone(tombstone), to_ms(TOMBSTONE_TIME), self._now_ms())
        found = None if data is None else unpack(data)
        if isinstance(found, Tombstone) and found.successor is not None:
            self._end(found.successor, kind=kind)

    def after_fork(self) -> None:
        if isinstance(self.client, _ConnectionPerThread):
            self.client.forget()

    # -- how ------------------------------------------------------------------------------------------------------

    def _run(self, script: str, handle: str, *args: t.Any) -> t.Any:
        """Run a script by its digest; by its text where the server does not know it (yet, or after a restart)."""
        try:
            return self._call("EVALSHA", _DIGESTS[script], 1, self.prefix + handle, *args)
        except StoreUnavailable as error:
            if not isinstance(error.__cause__, redis.exceptions.NoScriptError):
                raise
        return self._call("EVAL", script, 1, self.prefix + handle, *args)

    def _call(self, *command: t.Any) -> t.Any:
        """The one place where redis-py's exceptions are translated."""
        try:
            return self.client.execute_command(*command)
        except redis.exceptions.OutOfMemoryError as error:
            raise StoreFull("Redis has no memory left") from error
        except redis.exceptions.ResponseError as error:
            if "OOM " in str(error):  # from within a script
                raise StoreFull("Redis has no memory left") from error
            raise StoreUnavailable("Redis refused a command") from error
        except redis.exceptions.TimeoutError as error:
            raise StoreUnavailable("Redis did not answer in time") from error
        except (redis.exceptions.RedisError, OSError) as error:
            raise StoreUnavailable("Redis cannot be reached") from error


def _check_server(url: str, scheme: str) -> None:
    """redis-py would go to localhost without a word."""
    parts = urlsplit(url)
    if not (parts.path if scheme == "unix" else parts.hostname):
        raise ConfigurationError(
            "SESSION_STORE names no Redis server: write redis://localhost:6379/0", key="SESSION_STORE"
        )


class _ConnectionPerThread:
    """A client that keeps one connection for each thread.

    redis-py's own takes one from its pool for every command, which costs as much as the round trip.
    """

    def __init__(self, pool: redis.ConnectionPool) -> None:
        self._pool = pool
        self._kept = threading.local()

    def execute_command(self, *args: t.Any) -> t.Any:
        connection = self._connection()
        try:
            return _exchange(connection, args)
        except redis.exceptions.ConnectionError:
            # The server closes what is idle, and a restarted one knows no connections. Sending twice is safe: every
            # write carries a revision by which a store recognises its own.
            return _exchange(connection, args)

    def forget(self) -> None:
        """In a child process: the parent's connections are the parent's. (The pool sees to its own.)"""
        self._kept = threading.local()

    def _connection(self) -> t.Any:
        lease = getattr(self._kept, "lease", None)
        if lease is None:
            lease = self._kept.lease = _Lease(self._pool)
        return lease.connection


class _Lease:
    """A connection out of the pool, given back when its thread ends."""

    def __init__(self, pool: redis.ConnectionPool) -> None:
        self._pool = pool
        self.connection: t.Any = pool.get_connection()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # the interpreter may be going down
            self._pool.release(self.connection)


def _exchange(connection: t.Any, args: tuple[t.Any, ...]) -> t.Any:
    try:
        connection.send_command(*args, check_health=False)
        return connection.read_response()
    except redis.exceptions.ResponseError:
        raise  # an answer all the same
    except BaseException:
        connection.disconnect()  # a reply may be under way, which the next command would take for its own
        raise


_DIGESTS = {
    script: hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest() for script in (_SWAP, _EXTEND, _END)
}
