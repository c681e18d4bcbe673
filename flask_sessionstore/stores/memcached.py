"""MemcachedStore: sessions in Memcached, over pymemcache.

A record is one item under ``<prefix><handle>``. A read is one ``gets``, a new session one ``add``, a compare-and-set
one ``cas`` with the mark that the last ``gets`` brought. Every command waits for its reply: pymemcache's ``noreply``
and ``ignore_exc``, which would hide failures, are always off here.
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
from .contact import Contact
from .engines import CONNECT_TIMEOUT, MAX_LOSSES, TIMEOUT, too_busy
from .exposure import clear_text
from .pool import MAX_CONNECTIONS, NoneFree, Pool

PORT = 11211

# Seconds. Memcached takes a number above the first for a point in time; it does not understand points after the second.
_LONGEST_SPAN, _LAST_MOMENT = 30 * 24 * 3600, 2**31 - 1
_NEVER = 0

#: Tells whether bytes are the record of another name than the one that was asked for.
IsOfAnother = t.Callable[[bytes], bool]

# What this thread, greenlet or task read last: an object that identifies the store, the name, the first bytes and the
# mark. A request that writes has nearly always just read, so this saves a ``gets``. The value may be old, or inherited
# by a task or a child process. That does no harm: a ``cas`` with an outdated mark does nothing, and as long as the mark
# is current the item still has these first bytes. (A restarted server counts from the start, but has lost the item.)
_last_read: contextvars.ContextVar[tuple[object, str, bytes, bytes | None] | None]
_last_read = contextvars.ContextVar("flask_sessionstore_memcached", default=None)


class MemcachedStore(ServerSideStore):
    """Sessions in Memcached.

    :param client: pymemcache's ``Client``, ``PooledClient`` or ``HashClient``. The store takes its servers and
        settings, and makes connections of its own with them. A ``HashClient`` decides which server keeps which session;
        if that server cannot be reached, the store does not ask another.
    :param prefix: put before every handle.
    :param max_connections: how many connections there may be to each server at once, in one process. If all are in use,
        a request waits for a free connection as long as for a reply.
    :raises ConfigurationError: if the client is of another type, Memcached does not allow the prefix, or
        ``max_connections`` is below 1.
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
            raise ConfigurationError("max_connections must be at least 1", key="SESSION_STORE_OPTIONS")
        self._servers = _Servers(client, max_connections)
        self.contact: Contact = Contact()
        self._sign = object()  # identifies the store; the store itself in _last_read would be kept alive by it
        try:
            check_key_helper(prefix + "0" * 64, False, self._servers.key_prefix)
        except MemcacheIllegalInputError as error:
            raise ConfigurationError(
                "SESSION_KEY_PREFIX: Memcached takes ASCII without spaces, at most 186 characters",
                key="SESSION_KEY_PREFIX",
            ) from error

    @classmethod
    def from_url(cls, url: str, **options: t.Any) -> t.Self:
        """``memcached://host[:port][,host[:port]...]``; ``?connect_timeout=`` and ``?timeout=`` in seconds may follow.

        :raises ConfigurationError: if the URL does not name a server, or has a part that cannot be used.
        """
        servers, settings = _parse(url)
        return cls(Client(servers[0], **settings) if len(servers) == 1 else HashClient(servers, **settings), **options)

    # -- the four primitives ---------------------------------------------------------------------------------------

    def read(self, handle: str) -> bytes | None:
        return self._gets(handle)[0]

    def add(self, handle: str, data: bytes, ttl: timedelta) -> bool:
        for _ in range(MAX_LOSSES):
            if self._call("add", handle, data, _expiry(ttl)):
                return True
            found, mark = self._gets(handle)
            if found is None:
                continue  # it was removed in between
            if not has_expired(found, self.now()):
                return False
            if self._call("cas", handle, data, mark, _expiry(ttl)):
                return True
        raise too_busy()

    def swap(self, handle: str, data: bytes, ttl: timedelta, *, replaces: bytes | None) -> bool:
        found, mark = self._recall(handle) or self._gets(handle)
        for _ in range(MAX_LOSSES):
            if found is None or has_expired(found, self.now()) or not may_replace(found, replaces):
                return False
            if self._call("cas", handle, data, mark, _expiry(ttl)):
                return True
            found, mark = self._gets(handle)
            if found == data:
                return True  # this is our own write: its reply was lost, and it was sent again
        raise too_busy()

    def drop(self, handle: str) -> None:
        self._call("delete", handle)

    def exposures(self) -> list[str]:
        return clear_text(self._servers.in_clear_text(), "use Redis with TLS, or put both into one private network")

    # -- how ------------------------------------------------------------------------------------------------------

    def _gets(self, handle: str) -> tuple[bytes | None, bytes | None]:
        """The bytes under ``handle``, and the mark that a ``cas`` compares."""
        found, mark = self._call("gets", handle, is_of_another=of_another(handle))
        _last_read.set(None if found is None else (self._sign, handle, found[:HEADER_SIZE], mark))
        return found, mark

    def _recall(self, handle: str) -> tuple[bytes, bytes | None] | None:
        """The first bytes and the mark of ``handle``, if it was read last. Forgets them."""
        last = _last_read.get()
        if last is None or last[0] is not self._sign or last[1] != handle:
            return None
        _last_read.set(None)
        return last[2:]

    def _call(self, command: str, handle: str, *args: t.Any, is_of_another: IsOfAnother | None = None) -> t.Any:
        return self.contact.ask(self._ask, is_of_another, command, self.prefix + handle, args)

    def _ask(self, is_of_another: IsOfAnother | None, command: str, name: str, args: tuple[t.Any, ...]) -> t.Any:
        """Send a command. pymemcache's exceptions are translated only here."""
        try:
            return self._servers.of(name).ask(is_of_another, command, name, *args)
        except NoneFree as error:
            raise StoreUnavailable(
                "all connections to Memcached were in use for too long: see max_connections"
            ) from error
        except TimeoutError as error:
            raise StoreUnavailable("Memcached did not answer in time", lost="timed out") from error
        except (MemcacheUnexpectedCloseError, OSError) as error:
            raise StoreUnavailable("Memcached cannot be reached", lost="unreachable") from error
        except MemcacheServerError as error:
            raise _refusal(str(error), args) from error
        except (MemcacheError, *_NO_REPLY) as error:
            raise StoreUnavailable("Memcached refused a command") from error


def _refusal(reason: str, args: tuple[t.Any, ...]) -> Exception:
    if "too large" in reason and args:
        size = len(args[0])
        return SessionTooLarge(f"a session of {size} bytes is larger than Memcached allows for an item", size=size)
    if "out of memory" in reason:
        return StoreFull("Memcached has no memory left")
    return StoreUnavailable("Memcached refused a command")


def _expiry(ttl: timedelta) -> int:
    """When Memcached may remove an item, as its protocol needs it: a span, or a point in time. Memcached's clock ticks
    once a second, so one second is added.
    """
    seconds = (ttl - timedelta(microseconds=1)) // timedelta(seconds=1) + 2  # rounded up
    if seconds <= _LONGEST_SPAN:
        return seconds
    end = int(time.time()) + seconds
    return end if end <= _LAST_MOMENT else _NEVER


class _Servers:
    """Which server keeps which name, and the connections to each server."""

    def __init__(self, client: Client | PooledClient | HashClient, most: int) -> None:
        ring = isinstance(client, HashClient)
        clients = client.clients if ring else {None: client}
        self._hasher = copy.deepcopy(client.hasher) if ring else None  # the client's own drops servers that fail
        self._servers = {node: _Server(_template(one), most) for node, one in clients.items()}
        if not self._servers:
            raise ConfigurationError("MemcachedStore needs a client with a server", key="SESSION_STORE")

    @property
    def key_prefix(self) -> bytes:
        """The prefix that the client itself puts before all names."""
        return t.cast("bytes", next(iter(self._servers.values())).template.key_prefix)

    def in_clear_text(self) -> list[str]:
        """The hosts to which connections are not encrypted."""
        templates = (server.template for server in self._servers.values())
        plain = (template.server for template in templates if template.tls_context is None)
        return [address[0] for address in plain if not isinstance(address, str)]

    def of(self, name: str) -> _Server:
        """The server that keeps ``name``."""
        return self._servers[self._hasher.get_node(name) if self._hasher is not None else None]


def _template(client: object) -> Client:
    """A client with the same settings, without a connection."""
    if isinstance(client, PooledClient):
        with client.client_pool.get_and_release() as one:
            return _template(one)
    if not isinstance(client, Client):
        raise ConfigurationError(
            f"MemcachedStore needs pymemcache's Client, PooledClient or HashClient, not {type(client).__name__}",
            key="SESSION_STORE",
        )
    template = copy.copy(client)
    template.sock = None
    template.ignore_exc = template.default_noreply = False
    template.serde = LegacyWrappingSerde(None, None)  # records are bytes; foreign bytes must not be unpickled
    template.connect_timeout = template.connect_timeout or CONNECT_TIMEOUT  # pymemcache's default waits for ever
    template.timeout = template.timeout or TIMEOUT
    return template


class _Server:
    """One server, with connections that each serve one exchange at a time.

    :param template: a client that is never connected; each connection is a copy, which connects at its first command.
    :param most: how many connections there may be at once in one process.
    """

    def __init__(self, template: Client, most: int) -> None:
        self.template = template
        connect = functools.partial(copy.copy, template)
        self._pool: Pool[Client] = Pool(connect, _close, most=most, patience=template.timeout)

    def ask(self, is_of_another: IsOfAnother | None, command: str, *args: t.Any) -> t.Any:
        """Send one command, return its reply.

        :param is_of_another: for a ``gets``. If the reply is the record of another name, the command is sent once more
            on a new connection, and then its reply is returned in any case.
        """
        try:
            return self._pool.lend(_exchange, is_of_another, command, args)
        except (_Lost, _OfAnother, *_NO_REPLY):
            # After a restart of the server all connections are closed. A write may be sent twice: see engines.
            self._pool.clear()  # the other connections are probably bad too
        try:
            return self._pool.lend(_exchange, is_of_another, command, args)
        except _OfAnother as answer:
            return answer.reply


# pymemcache raises these for a reply that does not belong to the command, or is not one of Memcached's replies.
_NO_REPLY = (ValueError, MemcacheUnknownError)
# Stands for the item of another name, which pymemcache does not return: an empty record, with a mark no item has.
_NO_RECORD = (b"", b"0")


class _Lost(ConnectionError):
    """A connection that had been used before was closed."""


class _OfAnother(Exception):
    """A reply to another command. Its connection is closed, since all further replies would be wrong too."""

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
        raise  # a new connection failed, so trying again would not help
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
        # Does not quote the wrong part: it may be a password, which somebody wrote although it cannot be used.
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
