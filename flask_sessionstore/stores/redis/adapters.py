"""What RedisStore needs from a client, and an adapter for each kind of client, chosen once."""

from __future__ import annotations

import inspect
import re
import ssl
import typing as t

import redis
from redis import exceptions
from redis.sentinel import SentinelConnectionPool

from ...errors import ConfigurationError
from .clients import Accept, Cluster, Command, Server

# Where a server's error begins to repeat a command: "unknown command `HELLO`, with args beginning with: `3` `AUTH` ..."
_REPEATED = re.compile(r",? with args beginning with.*", re.DOTALL)


class Given(t.Protocol):
    """A client as an application has it."""

    def execute_command(self, *args: t.Any) -> t.Any:
        """Send one command, return its reply as bytes."""


class Client(t.Protocol):
    """What the store needs from a client. :class:`Server` and :class:`Cluster`, which a URL makes, have all of it."""

    #: Whether commands that are sent at once go over one connection: WAIT counts the writes of its own connection.
    can_wait: bool

    def ask(self, command: Command, accept: Accept | None = None) -> t.Any:
        """Send one command, return its reply.

        :param accept: tells whether a reply can belong to this command. If not, the command is sent once more on a new
            connection, and then its reply is returned in any case.
        """

    @property
    def may_compare(self) -> bool:
        """Whether :meth:`compare_and_set` is worth a try."""

    def compare_and_set(self, command: Command, accept: Accept) -> t.Any:
        """Send a SET with IFEQ, return its reply; None also if the server does not have it, or refuses it.

        :param accept: as in :meth:`ask`.
        :raises NotAsked: if nothing was sent, since that is known.
        """

    def execute_commands(self, *commands: Command) -> list[t.Any]:
        """Send commands at once, return their replies; the first error among the replies is raised."""

    def execute_each(self, commands: t.Sequence[Command]) -> list[t.Any]:
        """Send independent commands, as many at once as the client can."""

    def read_each(self, names: t.Sequence[str]) -> list[t.Any]:
        """The bytes under each of these names; None for a name without bytes."""

    def primaries(self) -> list[t.Any]:
        """Clients of all servers that hold a part of the keys."""


class _Any:
    """Any client that has an ``execute_command``."""

    can_wait = False
    may_compare = False  # it does not tell which server a command goes to

    def __init__(self, client: t.Any) -> None:
        self.client = client

    def ask(self, command: Command, accept: Accept | None = None) -> t.Any:
        reply = self.client.execute_command(*command)
        if accept is None or accept(reply):
            return reply
        for server in self.primaries():
            _close_idle(getattr(server, "connection_pool", None))
        return self.client.execute_command(*command)

    def compare_and_set(self, command: Command, accept: Accept) -> t.Any:
        return None

    def execute_commands(self, *commands: Command) -> list[t.Any]:
        return [self.client.execute_command(*command) for command in commands]

    def execute_each(self, commands: t.Sequence[Command]) -> list[t.Any]:
        return self.execute_commands(*commands) if commands else []

    def read_each(self, names: t.Sequence[str]) -> list[t.Any]:
        return t.cast("list[t.Any]", self.client.execute_command("MGET", *names)) if names else []

    def primaries(self) -> list[t.Any]:
        return [self.client]


class _WithPipelines(_Any):
    def execute_commands(self, *commands: Command) -> list[t.Any]:
        pipeline = self.client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        replies: list[t.Any] = pipeline.execute(raise_on_error=False)  # the error's text would contain the commands
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies


class _OfOneServer(_WithPipelines):
    """A ``redis.Redis``, such as ``Sentinel.master_for`` makes."""

    can_wait = True


class _OfACluster(_WithPipelines):
    """A ``redis.RedisCluster``."""

    def read_each(self, names: t.Sequence[str]) -> list[t.Any]:
        return self.execute_each([("GET", name) for name in names])

    def primaries(self) -> list[t.Any]:
        return [self.client.get_redis_connection(node) for node in self.client.get_primaries()]


def adapt(client: t.Any) -> Client:
    """The adapter for a client.

    :raises ConfigurationError: if it is a URL, a client for asyncio, or a client of another library than redis-py.
    """
    if isinstance(client, (Server, Cluster)):
        return client
    _check(client)
    if isinstance(client, redis.RedisCluster):
        return _OfACluster(client)
    if isinstance(client, redis.Redis):
        return _OfOneServer(client)
    return _WithPipelines(client) if hasattr(client, "pipeline") else _Any(client)


def _check(client: object) -> None:
    instead = None
    if isinstance(client, (str, bytes)):
        instead = "RedisStore takes a client; for a URL, use RedisStore.from_url"
    elif type(client).__module__.partition(".")[0] == "valkey":
        instead = "RedisStore takes clients of redis-py, not of valkey-py (they work with Valkey too): use redis.Redis"
    elif not callable(execute := getattr(client, "execute_command", None)) or inspect.iscoroutinefunction(execute):
        instead = f"RedisStore takes a synchronous client, such as redis.Redis, not {type(client).__qualname__}"
    if instead is not None:
        raise ConfigurationError(f'{instead}, or SESSION_STORE = "redis://..."', key="SESSION_STORE")


def _close_idle(pool: object) -> None:
    if isinstance(pool, redis.ConnectionPool) and not isinstance(pool, redis.BlockingConnectionPool):
        pool.disconnect(inuse_connections=False)


def without_arguments(error: Exception, client: t.Any) -> Exception:
    """An error without the arguments that the server repeats in it: a password, or a session's data."""
    text = str(error)
    words = _REPEATED.split(text, maxsplit=1)[0]
    if any(secret in words for secret in _passwords(client)):
        words = "the server's error message is not shown, since it repeats the password"
    if words == text:
        return error
    return type(error)(words) if isinstance(error, exceptions.RedisError) else Exception(words)


def _passwords(client: t.Any) -> list[str]:
    settings = getattr(getattr(client, "connection_pool", None), "connection_kwargs", {})
    return [str(value) for name, value in settings.items() if "password" in name and value]


def exposed_hosts(client: Client) -> tuple[list[str], list[str]]:
    """The hosts to which a client's connections are not encrypted, and those whose names TLS does not check.

    Only redis-py's own clients can be asked.
    """
    pools = [pool for one in client.primaries() if (pool := getattr(one, "connection_pool", None)) is not None]
    secure = [pool for pool in pools if issubclass(pool.connection_class, redis.SSLConnection)]
    local = [pool for pool in pools if issubclass(pool.connection_class, redis.UnixDomainSocketConnection)]
    unchecked = [_host_of(pool) for pool in secure if not _checks_names(pool)]
    return [_host_of(pool) for pool in pools if pool not in (*secure, *local)], unchecked


def _checks_names(pool: redis.ConnectionPool) -> bool:
    """Whether a connection with TLS compares the host's name with the server's certificate."""
    asked: t.Any = pool.connection_kwargs
    by_default = inspect.signature(redis.SSLConnection.__init__).parameters["ssl_check_hostname"].default
    required = asked.get("ssl_cert_reqs", "required") in ("required", ssl.CERT_REQUIRED)
    return bool(required and asked.get("ssl_check_hostname", by_default))


def _host_of(pool: redis.ConnectionPool) -> str:
    if isinstance(pool, SentinelConnectionPool):
        return t.cast("str", pool.get_master_address()[0])  # type: ignore[no-untyped-call]
    return t.cast("str", pool.connection_kwargs.get("host", "localhost"))
