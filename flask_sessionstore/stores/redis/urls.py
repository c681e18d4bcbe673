"""Makes RedisStore's client from a URL."""

from __future__ import annotations

import inspect
import re
import typing as t
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.connection import SSLConnection, parse_url
from redis.credentials import UsernamePasswordCredentialProvider
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from ...errors import ConfigurationError
from ..engines import CONNECT_TIMEOUT, TIMEOUT
from ..pool import MAX_CONNECTIONS
from .clients import Address, Cluster, Server

#: Seconds to wait for a Sentinel, both for a connection and for its reply, before the next Sentinel is asked.
SENTINEL_TIMEOUT = 0.5
_DATABASE = re.compile(r"/?|/[0-9]+/?", re.ASCII)


def connect(url: str) -> Server | Cluster:
    """The client that ``url`` describes. Opens no connection yet.

    :raises ConfigurationError: if the URL lacks a server or a service, or names an impossible database.
    :raises ValueError, TypeError, AttributeError: redis-py's own, for a part that it does not understand.
    """
    scheme = url.partition("://")[0].replace("valkey", "redis")
    base, _, kind = scheme.partition("+")
    parts = urlsplit(url)
    if not all(number.isdecimal() for number in parse_qs(parts.query).get("db", ())):
        raise _not_a_database("after db=", "?db=0")
    if kind == "sentinel":
        return _sentinel_client(base, parts)
    if kind == "cluster":
        return _cluster_client(base, parts)
    return _server(_pool(f"{kind or base}:{url.partition(':')[2]}"))


def _pool(url: str) -> redis.ConnectionPool:
    parts = urlsplit(url)
    unix = parts.scheme == "unix"
    if unix and not parts.path:
        raise _lacks("path of the socket", "redis+unix:///run/redis/redis.sock")
    if not (unix or parts.hostname):
        raise _lacks("Redis server", "redis://localhost:6379/0")
    settings = _settings(parts)
    if unix:
        del settings["socket_connect_timeout"]
    elif not _DATABASE.fullmatch(parts.path):  # redis-py takes another path for database 0
        raise _not_a_database("after the host", "redis://localhost:6379/0")
    return redis.ConnectionPool.from_url(url, **settings)


def _settings(parts: SplitResult) -> dict[str, t.Any]:
    """The default settings of connections, which arguments in the URL override."""
    return {
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "socket_timeout": TIMEOUT,
        "max_connections": MAX_CONNECTIONS,
        "retry": Retry(NoBackoff(), 0),  # Server and Cluster try again themselves
        # The older protocol has all that is needed here. The newer protocol begins with HELLO, which some servers and
        # proxies do not know, and some of these repeat the password in their error.
        "protocol": 2,
        **_NAMELESS,
        **_tls_settings(parts),
    }


def _tls_settings(parts: SplitResult) -> dict[str, t.Any]:
    """Compare the name in a server's certificate with the host: redis-py before version 6 does not by default."""
    is_checked = parse_qs(parts.query).get("ssl_cert_reqs", ["required"]) == ["required"]
    return {"ssl_check_hostname": is_checked} if parts.scheme.startswith(("rediss", "valkeys")) else {}


# Settings with which a connection does not send the client's name: proxies such as twemproxy close it otherwise.
_PARAMETERS = inspect.signature(redis.connection.AbstractConnection.__init__).parameters
_NAMELESS: dict[str, None] = dict.fromkeys(
    ("driver_info",) if "driver_info" in _PARAMETERS else ("lib_name", "lib_version")
)


def _cluster_client(base: str, parts: SplitResult) -> Cluster:
    if parts.path not in ("", "/", "/0"):
        raise ConfigurationError(
            "SESSION_STORE: a Redis cluster has only database 0: leave the database out", key="SESSION_STORE"
        )
    seeds, settings = _hosts(base, parts, "redis+cluster://node1:6379,node2:6379")

    def make_node(address: Address) -> Server:
        return _server(redis.ConnectionPool(host=address[0], port=address[1], **settings))

    make_node(seeds[0])
    return Cluster(seeds, make_node)


def _sentinel_client(base: str, parts: SplitResult) -> Server:
    example = "redis+sentinel://sentinel1:26379,sentinel2:26379/mymaster"
    service, _, database = parts.path.strip("/").partition("/")
    if not service:
        raise _lacks("name of the service that the Sentinels watch", example)
    if database and not database.isdecimal():
        raise _not_a_database("after the service", f"{example}/0")
    sentinels, settings = _hosts(base, parts._replace(path=f"/{database}"), example, port=26379)
    secure = settings.pop("connection_class", None) is SSLConnection
    password, user = settings.pop("sentinel_password", None), settings.pop("sentinel_username", None)
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        sentinels,
        sentinel_kwargs={
            # If no Sentinel answers, some releases put the password into the error, but not a provider's password.
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
    """The addresses in a URL with several hosts, and its other settings."""
    credentials, at, hosts = parts.netloc.rpartition("@")
    addresses, settings = [], _settings(parts)
    for host in hosts.split(","):
        one = parse_url(  # type: ignore[no-untyped-call]
            f"{base}://{credentials}{at}{host}{parts.path}?{parts.query}"
        )
        if "host" not in one:
            raise _lacks("Redis server", example)
        addresses.append((one.pop("host"), one.pop("port", port)))
        settings.update(one)
    return addresses, settings


def _server(pool: redis.ConnectionPool) -> Server:
    if pool.connection_kwargs.get("decode_responses"):
        raise ConfigurationError("SESSION_STORE: records are bytes: leave decode_responses out", key="SESSION_STORE")
    # Making the object does not connect, but refuses unknown settings.
    pool.connection_class(**pool.connection_kwargs)
    return Server(pool, pool.max_connections)


def _not_a_database(where: str, example: str) -> ConfigurationError:
    return ConfigurationError(
        f"SESSION_STORE: the part {where} must be the number of a database: write {example}", key="SESSION_STORE"
    )


def _lacks(what: str, example: str) -> ConfigurationError:
    return ConfigurationError(f"SESSION_STORE lacks the {what}: write {example}", key="SESSION_STORE")
