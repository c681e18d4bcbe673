"""MemcachedStore: sessions in Memcached, over pymemcache.

A record is one item under ``<prefix><handle>``. A read is one ``gets``, a new session one ``add``, a compare-and-set
one ``cas`` with the mark that the last ``gets`` brought. What was asked for is always answered: pymemcache's
``noreply`` and ``ignore_exc``, by which failures go unseen, are never in use here.
"""

from __future__ import annotations

import copy
import threading
import time
import typing as t
import weakref
from datetime import timedelta
from urllib.parse import parse_qsl, urlsplit

from pymemcache.client.base import Client, PooledClient, check_key_helper
from pymemcache.client.hash import HashClient
from pymemcache.exceptions import (
    MemcacheError,
    MemcacheIllegalInputError,
    MemcacheServerError,
    MemcacheUnexpectedCloseError,
)

from ..errors import ConfigurationError, SessionTooLarge, StoreFull, StoreUnavailable
from ..record import HEADER_SIZE, may_replace
from .base import ServerSideStore, has_expired
from .surroundings import clear_text

#: Seconds to wait for a connection, and for an answer, where nothing else is said.
CONNECT_TIMEOUT, TIMEOUT = 1.0, 2.0
PORT = 11211

# A longer time than this is a point in time to Memcached, and none after the last is understood.
_LONGEST, _LAST = 30 * 24 * 3600, 2**31 - 1
_NEVER = 0
# Losing this often in a row against other writers means something else is wrong.
_MAX_LOSSES = 100


class MemcachedStore(ServerSideStore):
    """Sessions in Memcached.

    :param client: pymemcache's ``Client``, ``PooledClient`` or ``HashClient``. It lends its servers and settings; each
        thread has connections of its own, made with these. A ``HashClient`` says which server keeps which session, and
        no other is asked when that one is away.
    :param prefix: put before every handle.
    :raises ConfigurationError: if the client is none of these, or Memcached allows no such prefix.
    """

    def __init__(self, client: Client | PooledClient | HashClient, *, prefix: str = "session:") -> None:
        super().__init__(prefix=prefix)
        self._servers = _Servers(client)
        self._connections = _Connections()
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
            if self._call("add", handle, data, _expiry(ttl), noreply=False):
                return True
            found, mark = self._gets(handle)
            if found is None:
                continue  # it went in between
            if not has_expired(found, self.now()):
                return False
            if self._call("cas", handle, data, mark, _expiry(ttl), noreply=False):
                return True
        raise _too_busy()

    def swap(self, handle: str, data: bytes, ttl: timedelta, *, replaces: bytes | None) -> bool:
        found, mark = self._connections.recall(handle) or self._gets(handle)
        for _ in range(_MAX_LOSSES):
            if found is None or has_expired(found, self.now()) or not may_replace(found, replaces):
                return False
            if self._call("cas", handle, data, mark, _expiry(ttl), noreply=False):
                return True
            found, mark = self._gets(handle)
            if found == data:
                return True  # our own write, whose reply was lost and which was sent again
        raise _too_busy()

    def drop(self, handle: str) -> None:
        self._call("delete", handle, noreply=False)

    def exposures(self) -> list[str]:
        return clear_text(self._servers.in_clear_text(), "take Redis with TLS, or put both into one private network")

    def after_fork(self) -> None:
        self._connections = _Connections()

    # -- how ------------------------------------------------------------------------------------------------------

    def _gets(self, handle: str) -> tuple[bytes | None, bytes | None]:
        """The bytes under ``handle``, and the mark that a ``cas`` compares."""
        found, mark = self._call("gets", handle)
        self._connections.remember(handle, found, mark)
        return found, mark

    def _call(self, command: str, handle: str, *args: t.Any, **options: t.Any) -> t.Any:
        """The one place where pymemcache's exceptions are translated."""
        name = self.prefix + handle
        try:
            return self._connections.to(self._servers.of(name)).send(command, name, *args, **options)
        except TimeoutError as error:
            raise StoreUnavailable("Memcached did not answer in time") from error
        except (MemcacheUnexpectedCloseError, OSError) as error:
            raise StoreUnavailable("Memcached cannot be reached") from error
        except MemcacheServerError as error:
            raise _refusal(str(error), args) from error
        except (MemcacheError, ValueError, KeyError) as error:  # the latter two: what answers is no Memcached
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

    def __init__(self, client: Client | PooledClient | HashClient) -> None:
        ring = isinstance(client, HashClient)
        clients = client.clients if ring else {None: client}
        self._hasher = copy.deepcopy(client.hasher) if ring else None  # the client's own drops servers that fail
        self._templates = {node: _template(one) for node, one in clients.items()}
        if not self._templates:
            raise ConfigurationError("MemcachedStore needs a client with a server", key="SESSION_STORE")

    @property
    def key_prefix(self) -> bytes:
        """What the client puts before all names."""
        return t.cast("bytes", next(iter(self._templates.values())).key_prefix)

    def in_clear_text(self) -> list[str]:
        """The hosts to which connections are not encrypted."""
        plain = (client.server for client in self._templates.values() if client.tls_context is None)
        return [server[0] for server in plain if not isinstance(server, str)]

    def of(self, name: str) -> Client:
        """The client, never connected, to be copied for the server of ``name``."""
        return self._templates[self._hasher.get_node(name) if self._hasher is not None else None]


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
    template.ignore_exc = False
    template.connect_timeout = template.connect_timeout or CONNECT_TIMEOUT  # pymemcache's own would wait for ever
    template.timeout = template.timeout or TIMEOUT
    return template


class _Connections(threading.local):
    """One connection for each thread and server, and what the thread read last.

    A request that writes has nearly always just read. The mark of that reading saves the next ``gets``, and no more
    depends on it: a ``cas`` with a mark that is no longer the newest does nothing.
    """

    def __init__(self) -> None:
        self._open: dict[int, _Connection] = {}
        self._last: tuple[str, bytes, bytes | None] | None = None

    def to(self, template: Client) -> _Connection:
        """This thread's connection for a template."""
        connection = self._open.get(id(template))
        if connection is None:
            connection = self._open[id(template)] = _Connection(copy.copy(template))
        return connection

    def remember(self, handle: str, found: bytes | None, mark: bytes | None) -> None:
        """Keep the mark, and as much of the bytes as their revision and expiry need."""
        self._last = None if found is None else (handle, found[:HEADER_SIZE], mark)

    def recall(self, handle: str) -> tuple[bytes, bytes | None] | None:
        """The first bytes and the mark of ``handle``, if it was read last; once."""
        last, self._last = self._last, None
        return last[1:] if last is not None and last[0] == handle else None


class _Connection:
    """A client that sends again what met a lost connection, and is closed when its thread ends."""

    def __init__(self, client: Client) -> None:
        self._client = client
        # Not by __del__: the garbage collector may come upon the open socket first.
        weakref.finalize(self, client.close)

    def send(self, command: str, *args: t.Any, **options: t.Any) -> t.Any:
        """One command and its answer."""
        was_open = self._client.sock is not None
        try:
            return self._exchange(command, args, options)
        except (ConnectionError, MemcacheUnexpectedCloseError):
            # A restarted server knows no connections. Sending twice is safe: every write carries a revision by which a
            # store recognises its own.
            if not was_open:
                raise
        return self._exchange(command, args, options)

    def _exchange(self, command: str, args: tuple[t.Any, ...], options: dict[str, t.Any]) -> t.Any:
        try:
            return getattr(self._client, command)(*args, **options)
        except BaseException:
            self._client.close()  # a reply may be under way, which the next command would take for its own
            raise


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
