"""MemcachedStore: sessions in Memcached, over pymemcache.

A record is one item under ``<prefix><handle>``. A read is one ``gets``, a new session one ``add``, a compare-and-set
one ``cas`` with the mark that the last ``gets`` brought. What was asked for is always answered: pymemcache's
``noreply`` and ``ignore_exc``, by which failures go unseen, are never in use here.
"""

from __future__ import annotations

import contextvars
import copy
import functools
import time
import typing as t
from datetime import timedelta
from urllib.parse import parse_qsl, urlsplit

from pymemcache.client.base import Client, PooledClient, check_key_helper
from pymemcache.client.hash import HashClient
from pymemcache.exceptions import (
    MemcacheError,
    MemcacheIllegalInputError,
    MemcacheServerError,
    MemcacheUnexpectedCloseError,
    MemcacheUnknownError,
)
from pymemcache.serde import LegacyWrappingSerde

from ..errors import ConfigurationError, SessionTooLarge, StoreFull, StoreUnavailable
from ..layout import HEADER_SIZE, may_replace, of_another
from .base import ServerSideStore, has_expired
from .exposure import clear_text
from .pool import MAX_CONNECTIONS, NoneFree, Pool

#: Seconds to wait for a connection, and for an answer, where nothing else is said.
CONNECT_TIMEOUT, TIMEOUT = 1.0, 2.0
PORT = 11211

# A longer time than this is a point in time to Memcached, and none after the last is understood.
_LONGEST, _LAST = 30 * 24 * 3600, 2**31 - 1
_NEVER = 0
# Losing this often in a row against other writers means something else is wrong.
_MAX_LOSSES = 100

#: Whether bytes are the record of another name than was asked for.
IsOfAnother = t.Callable[[bytes], bool]

# What this thread, greenlet or task read last: a sign of the store, the name, the first bytes and the mark. A request
# that writes has nearly always just read, so this saves it a ``gets``. It may be old, or inherited by a task or a child
# process. That does no harm: a ``cas`` with a mark that is not the newest does nothing, and while it is the newest the
# item is still what these first bytes say. (A restarted server counts anew, but has lost the item.)
_last_read: contextvars.ContextVar[tuple[object, str, bytes, bytes | None] | None]
_last_read = contextvars.ContextVar("flask_sessionstore_memcached", default=None)


class MemcachedStore(ServerSideStore):
    """Sessions in Memcached.

    :param client: pymemcache's ``Client``, ``PooledClient`` or ``HashClient``. It lends its servers and settings; the
        store has connections of its own, made with these. A ``HashClient`` says which server keeps which session, and
        no other is asked when that one is away.
    :param prefix: put before every handle.
    :param max_connections: how many there may be to each server at once, in one process. Who finds none free waits for
        one as long as for an answer.
    :raises ConfigurationError: if the client is none of these, Memcached allows no such prefix, or there may be no
        connection at all.
    """

    forgets = True

    def __init__(
        self,
        client: Client | PooledClient | HashClient,
        *,
        prefix: str = "session:",
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        super().__init__(prefix=prefix)
        if max_connections < 1:
            raise ConfigurationError("max_connections has to be 1 at least", key="SESSION_STORE_OPTIONS")
        self._servers = _Servers(client, max_connections)
        self._sign = object()  # not the store itself, which what was read last would keep alive
        try:
            check_key_helper(prefix + "0" * 64, False, self._servers.key_prefix)
        except MemcacheIllegalInputError as error:
            raise ConfigurationError(
                "SESSION_KEY_PREFIX: Memcached takes ASCII without spaces, 186 characters at most",
                key="SESSION_KEY_PREFIX",
            ) from error

    @classmethod
    def from_url(cls, url: str, **options: t.Any) -> t.Self:
        """``memcached://host[:port][,host[:port]...]``; ``?connect_timeout=`` and ``?timeout=`` in seconds may follow.

        :raises ConfigurationError: if the URL names no server, or has something in it that cannot be used.
        """
        servers, settings = _parse(url)
        return cls(Client(servers[0], **settings) if len(servers) == 1 else HashClient(servers, **settings), **options)

    # -- the four primitives ---------------------------------------------------------------------------------------

    def read(self, handle: str) -> bytes | None:
        return self._gets(handle)[0]

    def add(self, handle: str, data: bytes, ttl: timedelta) -> bool:
        for _ in range(_MAX_LOSSES):
            if self._call("add", handle, data, _expiry(ttl)):
                return True
            found, mark = self._gets(handle)
            if found is None:
                continue  # it went in between
            if not has_expired(found, self.now()):
                return False
            if self._call("cas", handle, data, mark, _expiry(ttl)):
                return True
        raise _too_busy()

    def swap(self, handle: str, data: bytes, ttl: timedelta, *, replaces: bytes | None) -> bool:
        found, mark = self._recall(handle) or self._gets(handle)
        for _ in range(_MAX_LOSSES):
            if found is None or has_expired(found, self.now()) or not may_replace(found, replaces):
                return False
            if self._call("cas", handle, data, mark, _expiry(ttl)):
                return True
            found, mark = self._gets(handle)
            if found == data:
                return True  # our own write, whose reply was lost and which was sent again
        raise _too_busy()

    def drop(self, handle: str) -> None:
        self._call("delete", handle)

    def exposures(self) -> list[str]:
        return clear_text(self._servers.in_clear_text(), "take Redis with TLS, or put both into one private network")

    # -- how ------------------------------------------------------------------------------------------------------

    def _gets(self, handle: str) -> tuple[bytes | None, bytes | None]:
        """The bytes under ``handle``, and the mark that a ``cas`` compares."""
        found, mark = self._call("gets", handle, is_of_another=of_another(handle))
        _last_read.set(None if found is None else (self._sign, handle, found[:HEADER_SIZE], mark))
        return found, mark

    def _recall(self, handle: str) -> tuple[bytes, bytes | None] | None:
        """The first bytes and the mark of ``handle``, if it was read last; once."""
        last = _last_read.get()
        if last is None or last[0] is not self._sign or last[1] != handle:
            return None
        _last_read.set(None)
        return last[2:]

    def _call(self, command: str, handle: str, *args: t.Any, is_of_another: IsOfAnother | None = None) -> t.Any:
        """The one place where pymemcache's exceptions are translated."""
        name = self.prefix + handle
        try:
            return self._servers.of(name).ask(is_of_another, command, name, *args)
        except NoneFree as error:
            raise StoreUnavailable(
                "all connections to Memcached were in use for too long: see max_connections"
            ) from error
        except TimeoutError as error:
            raise StoreUnavailable("Memcached did not answer in time") from error
        except (MemcacheUnexpectedCloseError, OSError) as error:
            raise StoreUnavailable("Memcached cannot be reached") from error
        except MemcacheServerError as error:
            raise _refusal(str(error), args) from error
        except (MemcacheError, *_NO_REPLY) as error:
            raise StoreUnavailable("Memcached refused a command") from error


def _refusal(reason: str, args: tuple[t.Any, ...]) -> Exception:
    if "too large" in reason and args:
        size = len(args[0])
        return SessionTooLarge(f"a session of {size} bytes is larger than an item of Memcached's may be", size=size)
    if "out of memory" in reason:
        return StoreFull("Memcached has no memory left")
    return StoreUnavailable("Memcached refused a command")


def _too_busy() -> StoreUnavailable:
    return StoreUnavailable("the session changes faster than it can be written; try again")


def _expiry(ttl: timedelta) -> int:
    """When Memcached may remove it, as Memcached wants it said. Its clock ticks once a second, so one second more."""
    seconds = (ttl - timedelta(microseconds=1)) // timedelta(seconds=1) + 2  # rounded up
    if seconds <= _LONGEST:
        return seconds
    end = int(time.time()) + seconds
    return end if end <= _LAST else _NEVER


class _Servers:
    """Which server keeps which name, and how each is connected to."""

    def __init__(self, client: Client | PooledClient | HashClient, most: int) -> None:
        ring = isinstance(client, HashClient)
        clients = client.clients if ring else {None: client}
        self._hasher = copy.deepcopy(client.hasher) if ring else None  # the client's own drops servers that fail
        self._servers = {node: _Server(_template(one), most) for node, one in clients.items()}
        if not self._servers:
            raise ConfigurationError("MemcachedStore needs a client with a server", key="SESSION_STORE")

    @property
    def key_prefix(self) -> bytes:
        """What the client puts before all names."""
        return t.cast("bytes", next(iter(self._servers.values())).template.key_prefix)

    def in_clear_text(self) -> list[str]:
        """The hosts to which connections are not encrypted."""
        templates = (server.template for server in self._servers.values())
        plain = (template.server for template in templates if template.tls_context is None)
        return [address[0] for address in plain if not isinstance(address, str)]

    def of(self, name: str) -> _Server:
        """The one that keeps ``name``."""
        return self._servers[self._hasher.get_node(name) if self._hasher is not None else None]


def _template(client: object) -> Client:
    """A client with the settings of this one, that has no connection."""
    if isinstance(client, PooledClient):
        with client.client_pool.get_and_release() as one:
            return _template(one)
    if not isinstance(client, Client):
        raise ConfigurationError(
            "MemcachedStore needs pymemcache's Client, PooledClient or HashClient", key="SESSION_STORE"
        )
    template = copy.copy(client)
    template.sock = None
    template.ignore_exc = template.default_noreply = False
    template.serde = LegacyWrappingSerde(None, None)  # records are bytes, and nobody else's bytes are to be unpickled
    template.connect_timeout = template.connect_timeout or CONNECT_TIMEOUT  # pymemcache's own would wait for ever
    template.timeout = template.timeout or TIMEOUT
    return template


class _Server:
    """One server, over connections that belong to one exchange at a time.

    :param template: a client that is never connected: each connection is a copy, which connects at its first command.
    :param most: how many there may be at once in one process.
    """

    def __init__(self, template: Client, most: int) -> None:
        self.template = template
        connect = functools.partial(copy.copy, template)
        self._pool: Pool[Client] = Pool(connect, _close, most=most, patience=template.timeout)

    def ask(self, is_of_another: IsOfAnother | None, command: str, *args: t.Any) -> t.Any:
        """Send one command, return its reply.

        :param is_of_another: for a ``gets``. A record that belongs to another name is asked for once more, on a new
            connection; what that brings is returned, whosever it is.
        """
        try:
            return self._pool.lend(_exchange, is_of_another, command, args)
        except (_Lost, _OfAnother, *_NO_REPLY):
            # A restarted server knows no connections. Sending twice is safe: every write carries a revision by which a
            # store recognises its own.
            self._pool.clear()  # the others are likely to be as bad
        try:
            return self._pool.lend(_exchange, is_of_another, command, args)
        except _OfAnother as answer:
            return answer.reply


# What pymemcache raises for what is no reply to the command, but one to another, or none of Memcached's.
_NO_REPLY = (ValueError, MemcacheUnknownError)
# What stands for an item of another name, which pymemcache keeps to itself: no record, with a mark that no item has.
_NO_RECORD = (b"", b"0")


class _Lost(ConnectionError):
    """A connection that had served before was closed."""


class _OfAnother(Exception):
    """A reply that belongs to another command. Its connection is closed: all further ones would, too."""

    def __init__(self, reply: tuple[bytes, bytes]) -> None:
        super().__init__("a reply to another command")
        self.reply = reply


def _exchange(client: Client, is_of_another: IsOfAnother | None, command: str, args: tuple[t.Any, ...]) -> t.Any:
    was_open = client.sock is not None
    try:
        reply = getattr(client, command)(*args)
    except (ConnectionError, MemcacheUnexpectedCloseError) as error:
        if was_open:
            raise _Lost from error
        raise  # in vain once is enough
    except KeyError as error:
        raise _OfAnother(_NO_RECORD) from error
    if is_of_another is not None and reply[0] is not None and is_of_another(reply[0]):
        raise _OfAnother(reply)
    return reply


def _close(client: Client) -> None:
    client.close()


def _parse(url: str) -> tuple[list[tuple[str, int]], dict[str, t.Any]]:
    """The servers that a URL names, and the settings of their clients."""
    settings: dict[str, t.Any] = {"connect_timeout": CONNECT_TIMEOUT, "timeout": TIMEOUT, "no_delay": True}
    try:
        parts = urlsplit(url)
        if "@" in parts.netloc or parts.path.strip("/") or parts.fragment:
            raise ValueError(url)
        servers = [_server(text) for text in parts.netloc.split(",")]
        for name, value in parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)):
            if name not in ("connect_timeout", "timeout") or not 0 < float(value) < float("inf"):
                raise ValueError(name)
            settings[name] = float(value)
    except ValueError:
        # What was wrong may be part of a password that somebody hoped would be used: it is not quoted.
        raise ConfigurationError(
            "SESSION_STORE: write memcached://host:11211, or memcached://one:11211,two:11211, without user or path;"
            " ?connect_timeout= and ?timeout= may follow, in seconds",
            key="SESSION_STORE",
        ) from None
    return servers, settings


def _server(text: str) -> tuple[str, int]:
    parts = urlsplit("//" + text)
    if not parts.hostname:
        raise ValueError(text)
    return parts.hostname, parts.port or PORT
