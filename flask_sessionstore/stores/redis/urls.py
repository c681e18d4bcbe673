"""From RedisStore's URL to its client."""

from __future__ import annotations

import inspect
import typing as t
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.connection import SSLConnection, parse_url
from redis.credentials import UsernamePasswordCredentialProvider
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from ...errors import ConfigurationError
from ..pool import MAX_CONNECTIONS
from .clients import CONNECT_TIMEOUT, TIMEOUT, Address, Cluster, Server

#: Seconds to wait for a Sentinel, both for a connection and for its answer, before the next one is asked.
SENTINEL_TIMEOUT = 0.5


def connect(url: str) -> Server | Cluster:
    """The client that ``url`` describes. Connects to nothing yet.

    :raises ConfigurationError: if it names no server, no service or a database that there cannot be.
    :raises ValueError, TypeError, AttributeError: redis-py's own, for what it does not understand.
    """
    scheme = url.partition("://")[0].replace("valkey", "redis")
    base, _, kind = scheme.partition("+")
    parts = urlsplit(url)
    if kind == "sentinel":
        return _sentinel_client(base, parts)
    if kind == "cluster":
        return _cluster_client(base, parts)
    return _server(_pool(f"{kind or base}:{url.partition(':')[2]}"))


def _pool(url: str) -> redis.ConnectionPool:
    parts = urlsplit(url)
    unix = parts.scheme == "unix"
    if not (parts.path if unix else parts.hostname):
        raise _names_no("Redis server", "redis://localhost:6379/0")
    settings = _settings(parts)
    if unix:
        del settings["socket_connect_timeout"]
    return redis.ConnectionPool.from_url(url, **settings)


def _settings(parts: SplitResult) -> dict[str, t.Any]:
    """What holds where the URL says nothing else."""
    return {
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "socket_timeout": TIMEOUT,
        "max_connections": MAX_CONNECTIONS,
        "retry": Retry(NoBackoff(), 0),  # the clients' own are enough
        # The older protocol, for it is all that is needed here, and the newer begins with HELLO, which not every server
        # and proxy knows, some of which repeat the password in their error.
        "protocol": 2,
        **_NAMELESS,
        **_tls_settings(parts),
    }


def _tls_settings(parts: SplitResult) -> dict[str, t.Any]:
    """That the name in a server's certificate is compared with the host: before version 6, redis-py does not."""
    is_checked = parse_qs(parts.query).get("ssl_cert_reqs", ["required"]) == ["required"]
    return {"ssl_check_hostname": is_checked} if parts.scheme.startswith(("rediss", "valkeys")) else {}


# That a connection does not tell the server who made it: proxies such as twemproxy close it then.
_PARAMETERS = inspect.signature(redis.connection.AbstractConnection.__init__).parameters
_NAMELESS: dict[str, None] = dict.fromkeys(
    ("driver_info",) if "driver_info" in _PARAMETERS else ("lib_name", "lib_version")
)


def _cluster_client(base: str, parts: SplitResult) -> Cluster:
    if parts.path not in ("", "/", "/0"):
        raise ConfigurationError("SESSION_STORE: a cluster has one database, 0", key="SESSION_STORE")
    seeds, settings = _hosts(base, parts, "redis+cluster://node1:6379,node2:6379")

    def make_node(address: Address) -> Server:
        return _server(redis.ConnectionPool(host=address[0], port=address[1], **settings))

    make_node(seeds[0])
    return Cluster(seeds, make_node)


def _sentinel_client(base: str, parts: SplitResult) -> Server:
    example = "redis+sentinel://sentinel1:26379,sentinel2:26379/mymaster"
    service, _, database = parts.path.strip("/").partition("/")
    if not service:
        raise _names_no("service of the Sentinels", example)
    if database and not database.isdecimal():
        raise ConfigurationError("SESSION_STORE: what follows the service is a database's number", key="SESSION_STORE")
    sentinels, settings = _hosts(base, parts._replace(path=f"/{database}"), example, port=26379)
    secure = settings.pop("connection_class", None) is SSLConnection
    password, user = settings.pop("sentinel_password", None), settings.pop("sentinel_username", None)
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        sentinels,
        sentinel_kwargs={
            # Some releases put a password into the message that no Sentinel answers, but no provider's.
            "credential_provider": UsernamePasswordCredentialProvider(user, password) if password else None,
            "socket_connect_timeout": SENTINEL_TIMEOUT,
            "socket_timeout": SENTINEL_TIMEOUT,
            "retry": Retry(NoBackoff(), 0),
            "ssl": secure,
            **{name: value for name, value in settings.items() if name.startswith("ssl_")},
        },
    )
    pool = SentinelConnectionPool(unquote(service), sentinel, ssl=secure, **settings)  # type: ignore[no-untyped-call]
    return _server(pool)


def _hosts(base: str, parts: SplitResult, example: str, port: int = 6379) -> tuple[list[Address], dict[str, t.Any]]:
    """The addresses in a URL with several, and what it says besides."""
    credentials, at, hosts = parts.netloc.rpartition("@")
    addresses, settings = [], _settings(parts)
    for host in hosts.split(","):
        one = parse_url(  # type: ignore[no-untyped-call]
            f"{base}://{credentials}{at}{host}{parts.path}?{parts.query}"
        )
        if "host" not in one:
            raise _names_no("Redis server", example)
        addresses.append((one.pop("host"), one.pop("port", port)))
        settings.update(one)
    return addresses, settings


def _server(pool: redis.ConnectionPool) -> Server:
    if pool.connection_kwargs.get("decode_responses"):
        raise ConfigurationError("SESSION_STORE: records are bytes: leave decode_responses out", key="SESSION_STORE")
    # To make a connection connects to nothing, but refuses settings that it does not know.
    pool.connection_class(**pool.connection_kwargs)
    return Server(pool, pool.max_connections)


def _names_no(what: str, example: str) -> ConfigurationError:
    return ConfigurationError(f"SESSION_STORE names no {what}: write {example}", key="SESSION_STORE")
