"""RedisStore: sessions in Redis, Valkey, or another server with their protocol.

A record is one string under ``<prefix><handle>``, which Redis removes when it expires. A read is one GET, a new session
one ``SET NX``, a compare-and-set one script on the server; each is one round trip on one key, so that a cluster can do
it. Newer servers also have ``SET IFEQ``, which takes a tenth of the script's time. It compares with the bytes that were
read; only if these differ, the script compares the revisions.

The sessions of an owner are listed in a sorted set under ``<prefix>owners:`` and the first 32 digits of the owner's
SHA-256. So a list's name differs from the names of records and of lists with another prefix. Its members are handles;
their scores are the times when they were filed, in milliseconds by the server's clock. A list has no expiry, since it
must outlast sessions that are extended again and again. Another type of value under such a name, and members that are
not handles, are foreign, and are left alone.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import re
import typing as t
from datetime import timedelta

import redis

from ...errors import ConfigurationError, SessionCorrupt, StoreFull, StoreUnavailable
from ...key import SessionKey, is_handle
from ...layout import HEAD_SIZE, of_another, pack_tombstone, revision_of, unpack
from ...record import TOMBSTONE_TIME, Kind, Record, Tombstone, to_ms
from ..abilities import has_doubled
from ..base import Entry, OwnerIndex, Scans, ServerSideStore, gone, has_expired, has_left, list_name
from ..contact import Contact
from ..exposure import clear_text, unchecked_names
from ..pool import NoneFree
from .adapters import Given, adapt, exposed_hosts, without_arguments
from .clients import Accept, Cluster, NotAsked, Server, is_refusal
from .scripts import DIGESTS, END, EXTEND, FILE, LIST, SWAP, TAKE_PLACE, UNFILE
from .urls import connect

logger = logging.getLogger("flask_sessionstore")

# Kinds of tombstones, as in their second byte (see layout.py): of an end; and of those after which a session goes on
# under another key.
_ENDED, _RENEWALS = 1, (3, 4, 5)
# So many keys are sent at once: that takes few round trips, and no round trip blocks others for long.
_BATCH = 500
# A record of so many bytes, or more, is first set under a name beside; then a script moves it. After a crash in between
# it remains there for so many milliseconds.
_LARGE, _BESIDE_MS = 8 * 1024, 10_000
# A prefix without a hash tag, and a prefix whose hash tag decides the slot of every name that begins with it.
_BESIDE_WORKS = re.compile(r"[^{}]*|[^{}]*\{[^{}]+\}.*", re.DOTALL)
_REMEDY = "a port is a number; percent-encode special characters in a password"
# The only maxmemory-policy with which a Redis whose memory is full refuses writes instead of removing sessions.
_NO_EVICTION = "noeviction"
# What to do about TLS that does not check whose certificate a server has.
_CHECKED = "remove ssl_check_hostname and ssl_cert_reqs from the URL, or make the client with ssl_check_hostname=True"
_TIMEOUTS = (redis.exceptions.TimeoutError, TimeoutError)


class _WrongType(StoreUnavailable):
    """A key of this store holds a value of the wrong Redis type: another program wrote it."""


class _List(t.NamedTuple):
    """An owner's list as it was read."""

    #: When each handle was filed, in milliseconds by the server's clock.
    filed: dict[str, int]
    #: By how many milliseconds the server's clock is ahead of ours.
    ahead: int


class RedisStore(ServerSideStore, Scans, OwnerIndex):
    """Sessions in Redis.

    :param client: any client of redis-py: ``Redis``, ``RedisCluster``, a ``Sentinel``'s ``master_for``. It keeps its
        own time-outs and retries (redis-py's defaults wait seconds for a dead server). The store never closes it.
    :param prefix: put before every handle.
    :param wait_replicas: how many replicas have to confirm the end or the renewal of a session. If fewer do, an end
        raises ``StoreUnavailable``, though the primary has done it, and a renewal logs a warning.
    :param wait_timeout: how long to wait for the replicas, in seconds; shorter than the client's own time-out.
    :raises ConfigurationError: if the client decodes its replies (records are bytes), or cannot wait for replicas.
    """

    # False once the server has replied that it does not run scripts by their digests.
    _knows_digests = True

    def __init__(
        self, client: Given, *, prefix: str = "session:", wait_replicas: int = 0, wait_timeout: float = 1.0
    ) -> None:
        super().__init__(prefix=prefix)
        self._client = adapt(client)
        self.contact: Contact = Contact()
        encoder = getattr(client, "get_encoder", lambda: None)()
        if getattr(encoder, "decode_responses", False):
            raise ConfigurationError(
                "RedisStore needs a client made without decode_responses=True", key="SESSION_STORE"
            )
        if wait_replicas and not self._client.can_wait:
            raise ConfigurationError(
                f"wait_replicas needs a URL or a redis.Redis: {type(client).__name__} may use different connections to"
                " write and to wait",
                key="SESSION_STORE_OPTIONS",
            )
        if wait_replicas < 0 or wait_timeout < 0.001:  # Redis takes 0 for "for ever"
            raise ConfigurationError(
                "wait_replicas must be at least 0, and wait_timeout at least 0.001 seconds: one of them is too small",
                key="SESSION_STORE_OPTIONS",
            )
        self.client: t.Any = client
        """The client that it was made with."""
        # Sends both commands for a large record over one connection; None if that does not work.
        own = self._client if isinstance(self._client, (Server, Cluster)) else None
        self._large = own if _BESIDE_WORKS.fullmatch(prefix) else None
        self.wait_replicas, self.wait_timeout = wait_replicas, wait_timeout
        """How many replicas have to confirm an end or a renewal, and for how many seconds it waits for them."""

    @classmethod
    def from_url(cls, url: str, **options: t.Any) -> t.Self:
        """``redis://[[user]:password@]host[:port][/database]``, ``rediss://`` (TLS), ``redis+unix:///path?db=0``;
        ``redis+sentinel://[[user]:password@]host[:port],host.../service[/database]``;
        ``redis+cluster://[[user]:password@]host[:port],host...``; these two also with ``rediss`` (TLS); all also with
        ``valkey``. redis-py's own URL arguments may follow (``?socket_timeout=5``).

        ``?max_connections=`` is the number of connections that there may be at once in one process (to each node of a
        cluster); default 64. A lost connection is made again once, to the server that is the primary by then.

        :raises ConfigurationError: if the URL lacks a server, or has a part that cannot be used.
        """
        try:
            client = connect(url)
        except ConfigurationError:
            raise
        except (ValueError, TypeError, AttributeError, redis.exceptions.RedisError) as error:
            # A ValueError may quote a part of the URL, which may be the password.
            why = str(error) if isinstance(error, TypeError) else _REMEDY
            raise ConfigurationError(f"SESSION_STORE: redis-py refuses the URL ({why})", key="SESSION_STORE") from None
        return cls(client, **options)

    # -- the four primitives ---------------------------------------------------------------------------------------

    def read(self, handle: str) -> bytes | None:
        try:
            return t.cast("bytes | None", self._call("GET", self.prefix + handle, accept=_of(handle)))
        except _WrongType:
            return b""  # counts as damaged bytes

    def add(self, handle: str, data: bytes, ttl: timedelta) -> bool:
        return bool(self._call("SET", self.prefix + handle, data, "PX", to_ms(ttl), "NX", accept=_is_status))

    def taken(self, names: t.Sequence[str]) -> set[str]:
        return {name for name, data in zip(names, self._read_each(names), strict=True) if data is not None}

    def swap(self, handle: str, data: bytes, ttl: timedelta, *, replaces: bytes | None) -> bool:
        if len(data) >= _LARGE and replaces is not None:
            swapped = self._swap_large(handle, data, ttl, replaces)
            if swapped is not None:
                return swapped
        arguments = (replaces or b"", data, to_ms(ttl), self._now_ms())
        return bool(self._run(SWAP, self.prefix + handle, *arguments, kind=data[1], accept=_is_number))

    def _swap_large(self, handle: str, data: bytes, ttl: timedelta, replaces: bytes) -> bool | None:
        """As :meth:`swap`, but the record is first set under a name beside. None if :data:`SWAP` has to decide."""
        try:
            return self._take_place(self.prefix + handle, data, replaces, to_ms(ttl))
        except StoreUnavailable as error:
            if not isinstance(error.__cause__, redis.exceptions.ResponseError):
                raise
            if is_refusal(error.__cause__):
                # An ACL forbids the name or a command, or a proxy keeps the two names on different servers.
                self._large = None
            return None

    def _take_place(self, name: str, data: bytes, replaces: bytes, ttl_ms: int) -> bool | None:
        """Set a record beside ``name``, and move it there if it may replace the record there, by two commands in one
        packet. None without a client that can do it.
        """
        client, beside = self._large, self._beside(name, revision_of(data))
        if client is None:
            return None
        send = functools.partial(client.execute_commands, ("SET", beside, data, "PX", _BESIDE_MS), accept=_is_number)
        arguments = (2, name, beside, replaces, ttl_ms, self._now_ms())
        replies = self._evaluate(TAKE_PLACE, lambda *script: self._send(send, (*script, *arguments)))
        return bool(replies[-1])

    def _beside(self, name: str, revision: bytes) -> str:
        """A name for a record that is to replace the record under ``name``: in the same slot of a cluster, under the
        same prefix, and used by no other write. A scan does not find it.
        """
        return f"{name}:{revision.hex()}" if "{" in self.prefix else f"{self.prefix}{{{name}}}{revision.hex()}"

    def exchange(self, handle: str, data: bytes, ttl: timedelta, *, replaces: bytes, known: bytes | None) -> bool:
        if known is not None and self._client.may_compare and self._is_current(known, replaces):
            command = ("SET", self.prefix + handle, data, "PX", to_ms(ttl), "IFEQ", known)
            try:
                if self._send(self._client.compare_and_set, command, _is_status):
                    return True
            except (_WrongType, StoreFull, NotAsked):  # the script compares before it looks for room
                pass
        return self.swap(handle, data, ttl, replaces=replaces)  # the record may have been extended since

    def _is_current(self, known: bytes, replaces: bytes) -> bool:
        return revision_of(known) == replaces and not has_expired(known, self.now())

    def drop(self, handle: str) -> None:
        self._call("DEL", self.prefix + handle, kind=_ENDED)

    # -- owners, and all sessions ----------------------------------------------------------------------------------

    def file(self, owner: str, handle: str) -> None:
        key = self._list_of(owner)
        length = self._run(FILE, key, self._tests_now, handle)
        if length < 0:
            logger.warning("a session of an owner is not listed: %s", _no_list(key))
        elif has_doubled(length):
            with contextlib.suppress(StoreUnavailable):  # the session is filed; the next pruning can do the rest
                self._prune([key])

    def unfile(self, owner: str, *handles: str) -> None:
        key = self._list_of(owner)
        commands = [("ZREM", key, *handles[start : start + _BATCH]) for start in range(0, len(handles), _BATCH)]
        with contextlib.suppress(_WrongType):  # the key does not hold a list, so the handle is not listed
            self._send(self._client.execute_each, commands)

    def entries(self, owner: str) -> list[Entry]:
        key = self._list_of(owner)
        reply = self._run(LIST, key, self._tests_now)
        if reply is None:
            raise StoreUnavailable(_no_list(key))
        return self._entries([self._read_list(reply)])[0]

    def prune(self, limit: int | None = None) -> int:
        removed = 0
        for keys in self._scan(_escaped(self._lists) + b"[0-9a-f]" * 32, "TYPE", "zset"):
            removed += self._prune(keys, None if limit is None else limit - removed)
            if removed == limit:
                break
        return removed

    def scan(self) -> t.Iterator[Entry]:
        for names in self._scan(_escaped(self.prefix.encode()) + b"[0-9a-f]" * 64):
            handles = [name[-64:].decode() for name in names]
            for handle, data in zip(handles, self._read_each(handles), strict=True):
                if data is not None:
                    yield Entry(handle, data)

    def end_each(self, revisions: t.Mapping[str, bytes], owner: str) -> list[str]:
        if self.wait_replicas:
            return super().end_each(revisions, owner)
        tombstone, rest = self._tombstone("revoked", owner), (to_ms(TOMBSTONE_TIME), self._now_ms())
        commands = [
            ("EVAL", SWAP, 1, self.prefix + handle, revision, pack_tombstone(tombstone, handle), *rest)
            for handle, revision in revisions.items()
        ]
        try:
            replies = self._send(self._client.execute_each, commands)
        except StoreUnavailable:
            return []
        return [handle for handle, reply in zip(revisions, replies, strict=True) if reply]

    # -- verbs in one round trip -----------------------------------------------------------------------------------

    def update_ttl(self, key: SessionKey, ttl: timedelta | None = None) -> tuple[SessionKey, Record]:
        now_ms = self._now_ms()
        idle = b"" if ttl is None else to_ms(ttl)
        data = self._run(EXTEND, self.prefix + key.handle, idle, now_ms, accept=_of(key.handle))
        found = self._open(data, key.handle, key)
        if not isinstance(found, Record):
            raise gone(found)
        return key, found.extended(now_ms, ttl)

    def delete(
        self, key: SessionKey, *, replaces: bytes | None = None, emptied: bool = False, owner: str | None = None
    ) -> None:
        if replaces is None:
            with contextlib.suppress(StoreFull):
                self._end_at_once(key.handle, "emptied" if emptied else "ended")
                return
        super().delete(key, replaces=replaces, emptied=emptied, owner=owner)

    def _end_at_once(self, handle: str, kind: Kind) -> None:
        name, tombstone = self.prefix + handle, pack_tombstone(self._tombstone(kind), handle)
        arguments = (tombstone, to_ms(TOMBSTONE_TIME), self._now_ms())
        data = self._run(END, name, *arguments, kind=_ENDED, accept=_of(handle))
        try:
            found = None if data is None else unpack(data, handle)
        except SessionCorrupt:  # the bytes look like a tombstone, but are damaged: end them like a record
            self._end(handle, kind=kind)
            return
        if isinstance(found, Tombstone) and found.kind == "renewed" and found.successor is not None:
            self._end(found.successor, kind=kind, follows=("renewed",))

    # -- risks -----------------------------------------------------------------------------------------------------

    def risks(self) -> list[str]:
        policies = {self._eviction_policy(server) for server in self._translated(self._client.primaries)}
        return [*super().risks(), *filter(None, map(_eviction_risk, sorted(policies)))]

    def exposures(self) -> list[str]:
        open_hosts, unchecked = self._translated(exposed_hosts, self._client)
        return [*clear_text(open_hosts, "write rediss:// for redis://"), *unchecked_names(unchecked, _CHECKED)]

    def _eviction_policy(self, server: t.Any) -> str:
        """What a server does when its memory is full; "" if it does not tell."""
        try:
            # INFO is often allowed where CONFIG GET is forbidden, as it is on most managed servers.
            reply = self._send(server.execute_command, "INFO", "memory")
        except StoreUnavailable as error:
            if isinstance(error.__cause__, redis.exceptions.ResponseError):
                return ""
            raise
        if isinstance(reply, dict):
            return str(reply.get("maxmemory_policy", _NO_EVICTION))
        found = re.search(rb"^maxmemory_policy:(\S+)", reply, re.MULTILINE)
        return found[1].decode() if found else _NO_EVICTION

    # -- how ------------------------------------------------------------------------------------------------------

    @property
    def _lists(self) -> bytes:
        """The beginning of the names of all lists."""
        return f"{self.prefix}owners:".encode()

    def _list_of(self, owner: str) -> bytes:
        return self._lists + list_name(owner).encode()

    @property
    def _tests_now(self) -> int | bytes:
        return b"" if self.clock is None else self._now_ms()

    def _read_list(self, reply: t.Sequence[bytes] | None) -> _List:
        """The entries in a reply to :data:`LIST`, without foreign members."""
        if reply is None:
            return _List({}, 0)
        filed = {
            member.decode("latin-1"): int(score)
            for member, score in zip(reply[1::2], map(float, reply[2::2]), strict=True)
            if math.isfinite(score)
        }
        return _List({name: ms for name, ms in filed.items() if is_handle(name)}, int(reply[0]) - self._now_ms())

    def _entries(self, lists: t.Sequence[_List]) -> list[list[Entry]]:
        """The entries of these lists, each with its record's head."""
        handles = list(dict.fromkeys(handle for one in lists for handle in one.filed))
        heads = dict(zip(handles, self._read_heads(handles), strict=True))
        return [
            [Entry(handle, heads[handle], filed_ms - one.ahead) for handle, filed_ms in one.filed.items()]
            for one in lists
        ]

    def _read_heads(self, handles: t.Sequence[str]) -> t.Iterator[bytes | None]:
        for start in range(0, len(handles), _BATCH):
            commands = [
                ("GETRANGE", self.prefix + handle, 0, HEAD_SIZE - 1) for handle in handles[start : start + _BATCH]
            ]
            try:
                heads = self._send(self._client.execute_each, commands)
            except _WrongType:
                heads = map(self._read_head, commands)
            yield from (head or None for head in heads)

    def _read_head(self, command: tuple[t.Any, ...]) -> bytes:
        try:
            return t.cast("bytes", self._call(*command))
        except _WrongType:
            return b"\0"  # counts as damaged bytes

    def _read_each(self, handles: t.Sequence[str]) -> list[bytes | None]:
        try:
            names = [self.prefix + handle for handle in handles]
            return t.cast("list[bytes | None]", self._send(self._client.read_each, names))
        except _WrongType:  # only from a cluster; MGET replies None for a value of another type
            return [self.read(handle) or None for handle in handles]

    def _prune(self, keys: t.Sequence[bytes], limit: int | None = None) -> int:
        """Remove the entries of gone sessions from these lists, at most ``limit``, and return how many."""
        replies = self._send(self._client.execute_each, [("EVAL", LIST, 1, key, self._tests_now) for key in keys])
        lists, now, commands = [self._read_list(reply) for reply in replies], self.now(), []
        for key, one, entries in zip(keys, lists, self._entries(lists), strict=True):
            name = key[-32:].decode()
            left = [entry.handle for entry in entries if has_left(entry, name, now, expires=self.clock is not None)]
            left = left[:limit]
            if left:
                limit = None if limit is None else limit - len(left)
                what = [part for handle in left for part in (handle, one.filed[handle])]
                commands.append(("EVAL", UNFILE, 1, key, *what))
        return sum(self._send(self._client.execute_each, commands)) if commands else 0

    def _scan(self, pattern: bytes, *options: str) -> t.Iterator[list[bytes]]:
        """All keys that match, in batches."""
        for server in self._translated(self._client.primaries):
            cursor: t.Any = 0
            while True:
                command = ("SCAN", cursor, "MATCH", pattern, "COUNT", _BATCH, *options)
                cursor, names = self._send(server.execute_command, *command)
                if names:
                    yield names
                if not int(cursor):
                    break

    def _run(self, script: str, name: str | bytes, *args: t.Any, kind: int = 0, accept: Accept | None = None) -> t.Any:
        return self._evaluate(script, lambda *how: self._call(*how, 1, name, *args, kind=kind, accept=accept))

    def _evaluate(self, script: str, run: t.Callable[[str, str], t.Any]) -> t.Any:
        """Call ``run`` with EVALSHA and a script's digest; with EVAL and its text if the server does not know it (yet,
        or after a restart).
        """
        if self._knows_digests:
            try:
                return run("EVALSHA", DIGESTS[script])
            except StoreUnavailable as error:
                if _is_unknown(error.__cause__):
                    self._knows_digests = False  # the server will not learn them later
                elif not isinstance(error.__cause__, redis.exceptions.NoScriptError):
                    raise
        return run("EVAL", script)

    def _call(self, *command: t.Any, kind: int = 0, accept: Accept | None = None) -> t.Any:
        """Send one command, return its reply.

        :param kind: the kind of tombstone that the command leaves; 0: it leaves none.
        :param accept: tells whether a reply can belong to this command.
        """
        if kind and self.wait_replicas:
            return self._send(self._call_and_wait, command, kind)
        return self.contact.ask(self._translated, self._client.ask, command, accept)

    def _send(self, send: t.Callable[..., t.Any], *args: t.Any) -> t.Any:
        """What ``send`` returns, if the server may be asked now. It must ask the server: its reply ends an outage."""
        return self.contact.ask(self._translated, send, *args)

    def _translated(self, ask: t.Callable[..., t.Any], *args: t.Any) -> t.Any:
        """Call ``ask``. redis-py's exceptions are translated only here."""
        try:
            return ask(*args)
        except (redis.exceptions.RedisError, redis.exceptions.RedisClusterException, OSError, NoneFree) as error:
            found = error
        # Raised outside, so that the original error, which may hold a password, is not this exception's context.
        raise _translation(found) from without_arguments(found, self.client)

    def _call_and_wait(self, command: tuple[t.Any, ...], kind: int) -> t.Any:
        """Leave a tombstone, and wait until the replicas confirm it.

        If they do not, ending a session raises, since the caller has to know that a failover may bring the session
        back. A renewal only logs a warning: an error after it would cost the visitor the new key, and so the session.
        """
        wait = ("WAIT", self.wait_replicas, int(self.wait_timeout * 1000))
        reply, confirmed = self._client.execute_commands(command, wait)
        if confirmed >= self.wait_replicas or reply == 0:  # 0: there was nothing to end
            return reply
        if kind not in _RENEWALS:
            raise StoreUnavailable("the session has ended, but too few replicas confirm it: a failover may undo it")
        logger.warning("a session was renewed, but too few replicas confirm it: a failover may undo it")
        return reply


def _translation(error: Exception) -> StoreUnavailable:
    if isinstance(error, redis.exceptions.OutOfMemoryError) or (
        isinstance(error, redis.exceptions.ResponseError) and "OOM " in str(error)  # from within a script
    ):
        return StoreFull("Redis has no memory left")
    if isinstance(error, redis.exceptions.ResponseError):
        if str(error).startswith("WRONGTYPE"):
            return _WrongType("Redis holds a value of the wrong type under a session's name")
        if isinstance(error, redis.exceptions.ReadOnlyError):
            return StoreUnavailable("Redis is a replica, which does not accept writes")
        if isinstance(error, redis.exceptions.NoPermissionError):
            return StoreUnavailable("Redis does not allow this user to run a command that sessions need")
        return StoreUnavailable("Redis refused a command")
    if isinstance(error, _TIMEOUTS):
        return StoreUnavailable("Redis did not answer in time", lost="timed out")
    if isinstance(error, NoneFree):
        return StoreUnavailable("all connections to Redis were in use for too long: see max_connections")
    return StoreUnavailable("Redis cannot be reached", lost="unreachable")


def _is_unknown(error: BaseException | None) -> bool:
    """Whether a server or a proxy does not know a command, or does not allow it."""
    text = str(error).lower()
    return isinstance(error, redis.exceptions.ResponseError) and ("unknown command" in text or "noperm" in text)


def _of(handle: str) -> Accept:
    """Accepts replies that are a record of this handle, or nothing."""
    is_of_another = of_another(handle)
    return lambda reply: reply is None or (type(reply) is bytes and not is_of_another(reply))


def _is_status(reply: object) -> bool:
    """Accepts replies that say whether a SET was done. (redis-py turns them into a bool.)"""
    return reply in (None, True, b"OK")


def _is_number(reply: object) -> bool:
    return isinstance(reply, int)


def _eviction_risk(policy: str) -> str | None:
    if policy == _NO_EVICTION:
        return None
    if not policy:
        return (
            "Redis does not show its maxmemory-policy, so it may evict sessions: allow this user to run INFO"
            " (ACL SETUSER <user> +info)."
        )
    return (
        f"Redis evicts sessions when its memory is full (maxmemory-policy {policy}): set the policy to {_NO_EVICTION};"
        " if caches need another policy, use a separate server for the sessions."
    )


def _no_list(key: bytes) -> str:
    return f"Redis holds another type of value in place of an owner's list; remove {key.decode()} if nobody needs it"


def _escaped(name: bytes) -> bytes:
    """``name`` escaped for a pattern that matches only this name."""
    return re.sub(rb"[*?\[\]\\]", rb"\\\g<0>", name)
