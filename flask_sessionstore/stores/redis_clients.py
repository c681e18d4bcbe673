"""Clients for RedisStore: of one server, of the primary that Sentinels name, of a cluster.

They speak over redis-py's connections. Each thread keeps its own: to take one out of redis-py's pool for every command
costs as much as the round trip. What is lost is found anew, once: a server that restarted, a primary that moved. What
does not answer in time is not asked again, so that a request waits no longer than the time-outs.
"""

from __future__ import annotations

import collections
import contextlib
import re
import threading
import typing as t
import weakref

import redis
from redis import exceptions
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.sentinel import SentinelConnectionPool

Address = tuple[str, int]
Command = tuple[t.Any, ...]

# Error replies of a server that is the right one, and well.
_ANSWERS = (exceptions.NoScriptError, exceptions.OutOfMemoryError)
# redis-py 5 leaves the first word, later ones make it the exception's class.
_REDIRECTION = re.compile(r"(?:(?:MOVED|ASK) )?\d+ (?P<host>\S*):(?P<port>\d+)")
_REDIRECTIONS = 5


class Server:
    """A client of one server: whichever the pool's connections lead to.

    :param pool: makes connections; it holds none.
    """

    def __init__(self, pool: redis.ConnectionPool) -> None:
        #: As redis-py's own clients have it.
        self.connection_pool = pool
        self._close: weakref.finalize[..., t.Any] | None = None
        self.forget()

    def execute_command(self, *args: t.Any) -> t.Any:
        """Send one command, return its reply."""
        return self._send(_exchange, args)

    def execute_commands(self, *commands: Command) -> list[t.Any]:
        """Send commands at once over one connection, return their replies; the first error among them is raised."""
        return t.cast("list[t.Any]", self._send(_exchange_all, commands))

    def forget(self) -> None:
        """In a child process: the parent's connections are the parent's."""
        if self._close is not None:
            self._close.detach()
        self._made: list[t.Any] = []
        self._idle: collections.deque[t.Any] = collections.deque()
        self._kept = threading.local()
        # Not by __del__: they are parts of cycles, and the garbage collector may come upon an open socket first.
        self._close = weakref.finalize(self, _disconnect, self._made)

    def _send(self, exchange: t.Callable[[t.Any, Command], t.Any], what: Command, *, again: bool = True) -> t.Any:
        connection = self._connection()
        connection.connect()  # nothing if it is; a Sentinel's asks for the primary first. In vain once is enough
        try:
            return exchange(connection, what)
        except _ANSWERS:
            raise
        except BaseException as error:
            # A reply may be under way, which the next command would take for its own. And one that refuses, such as
            # a primary that has become a replica, may not be the one to talk to any more.
            connection.disconnect()
            if not (again and isinstance(error, exceptions.ConnectionError)):
                raise
        # The server closes what is idle, and a restarted one knows no connections. Sending twice is safe: every write
        # carries a revision by which a store recognises its own. (Over the same one: another may be lost as well.)
        return self._send(exchange, what, again=False)

    def _connection(self) -> t.Any:
        lease = getattr(self._kept, "lease", None)
        if lease is None:
            lease = self._kept.lease = _Lease(self._idle, self._make)
        return lease.connection

    def _make(self) -> t.Any:
        connection = self.connection_pool.make_connection()
        self._made.append(connection)
        return connection


class _Lease:
    """A connection, left for others when its thread ends."""

    def __init__(self, idle: collections.deque[t.Any], make: t.Callable[[], t.Any]) -> None:
        self._idle = idle
        try:
            self.connection = idle.pop()
        except IndexError:
            self.connection = make()

    def __del__(self) -> None:
        if hasattr(self, "connection"):
            self._idle.append(self.connection)


def _disconnect(connections: list[t.Any]) -> None:
    for connection in connections:
        with contextlib.suppress(Exception):  # nobody could catch it
            connection.disconnect()


def _exchange(connection: t.Any, command: Command) -> t.Any:
    connection.send_command(*command, check_health=False)
    return connection.read_response()


def _exchange_all(connection: t.Any, commands: Command) -> list[t.Any]:
    connection.send_packed_command(connection.pack_commands(commands), check_health=False)
    replies, errors = [], []
    for _ in commands:
        try:
            replies.append(connection.read_response())
        except exceptions.ResponseError as error:
            errors.append(error)
    if errors:
        raise errors[0]
    return replies


class Cluster:
    """A client of a cluster: each command goes to the primary of its key.

    redis-py's own asks all silent nodes in turn, a time-out each, before it gives up, and in new releases other threads
    queue behind that; old ones close connections that other threads are using, and forget nodes that failed for good.

    :param seeds: nodes to ask for the others.
    :param make_pool: makes the pool for a node.
    """

    def __init__(self, seeds: t.Sequence[Address], make_pool: t.Callable[[Address], redis.ConnectionPool]) -> None:
        self._seeds, self._make_pool = tuple(seeds), make_pool
        # Threads need no lock: each of these is replaced as a whole, but for nodes that join in one step.
        self._known = self._seeds  # in the order in which they are asked
        self._nodes: dict[Address, Server] = {}
        self._primaries: list[Address | None] = []  # by slot; empty: to be asked for

    def execute_command(self, *args: t.Any) -> t.Any:
        """Send one command, return its reply."""
        return self.execute_commands(args)[0]

    def execute_commands(self, *commands: Command) -> list[t.Any]:
        """Send commands at once over one connection, to the primary of the first one's key."""
        slot = _slot(commands[0])
        address, asking = self._primary(slot), False
        for _ in range(_REDIRECTIONS):
            try:
                if asking:
                    return self._node(address).execute_commands(("ASKING",), *commands)[1:]
                return self._node(address).execute_commands(*commands)
            except _ANSWERS:
                raise
            except exceptions.ResponseError as error:
                address, asking = self._redirected(error, address), True
            except exceptions.ConnectionError as error:
                address, asking = self._successor(error, address, slot), False
            except BaseException:
                self._distrust(address)
                raise
        raise exceptions.ConnectionError("the cluster's nodes send us in circles")

    def execute_each(self, commands: t.Sequence[Command]) -> list[t.Any]:
        """Send commands that have nothing to do with each other: those for one primary at once."""
        groups: dict[Address, list[int]] = {}
        for number, command in enumerate(commands):
            groups.setdefault(self._primary(_slot(command)), []).append(number)
        replies: dict[int, t.Any] = {}
        for address, numbers in groups.items():
            replies.update(zip(numbers, self._execute_at(address, [commands[n] for n in numbers]), strict=True))
        return [replies[number] for number in range(len(commands))]

    def primaries(self) -> list[Server]:
        """Clients of all primaries that there are now."""
        return [self._node(address) for address in dict.fromkeys(self._ask()) if address is not None]

    def forget(self) -> None:
        """In a child process: the parent's connections are the parent's."""
        self._nodes = {}

    def _execute_at(self, address: Address, commands: list[Command]) -> list[t.Any]:
        try:
            return self._node(address).execute_commands(*commands)
        except (exceptions.ResponseError, exceptions.ConnectionError):
            # Some key, or all, may live elsewhere by now: each finds its own way, or fails for its own reason.
            return [self.execute_command(*command) for command in commands]
        except BaseException:
            self._distrust(address)
            raise

    def _node(self, address: Address) -> Server:
        return self._nodes.get(address) or self._nodes.setdefault(address, Server(self._make_pool(address)))

    def _primary(self, slot: int) -> Address:
        primaries = self._primaries or self._ask()
        address = primaries[slot]
        if address is None:
            self._primaries = []
            raise exceptions.ConnectionError("no node of the cluster serves this slot")
        return address

    def _redirected(self, error: exceptions.ResponseError, address: Address) -> Address:
        """Where an error reply sends us. (ASKING does no harm where it is not asked for.)"""
        found = _REDIRECTION.fullmatch(str(error))
        if found is None:
            self._distrust(address)
            raise error
        self._primaries = []
        return found["host"] or address[0], int(found["port"])

    def _successor(self, error: exceptions.ConnectionError, address: Address, slot: int) -> Address:
        """Which node has taken over, if one has by now."""
        self._distrust(address)
        successor = self._primary(slot)
        if successor == address:
            raise error
        return successor

    def _distrust(self, address: Address) -> None:
        """Ask for the primaries again, and this node last."""
        self._known = (*(known for known in self._known if known != address), address)
        self._primaries = []

    def _ask(self) -> list[Address | None]:
        """Find the primaries out, from the first node that can be reached and knows them all."""
        primaries: list[Address | None] = []
        for address in self._known:
            try:
                slots = self._node(address).execute_command("CLUSTER", "SLOTS")
            except exceptions.ConnectionError:
                self._distrust(address)
                continue
            except BaseException:
                self._distrust(address)  # the next request asks another one
                raise
            found, nodes = _parse(slots, address[0])
            primaries = min(primaries or found, found, key=lambda known: known.count(None))
            if None not in found:
                self._known = (*nodes, *(seed for seed in self._seeds if seed not in nodes))
                self._nodes = {address: node for address, node in dict(self._nodes).items() if address in self._known}
                break
            self._distrust(address)  # the cluster is not whole, or this node is no part of it any more
        if not primaries:
            raise exceptions.ConnectionError("no node of the cluster can be reached")
        self._primaries = primaries
        return primaries


def _slot(command: Command) -> int:
    key = command[3] if command[0].startswith("EVAL") else command[1]
    return key_slot(key if isinstance(key, bytes) else key.encode())


def _parse(slots: t.Any, asked: str) -> tuple[list[Address | None], list[Address]]:
    """The primary of every slot, and all nodes, from what a node with the host name ``asked`` replied."""
    primaries: list[Address | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
    known: dict[Address, None] = {}
    for first, last, *nodes in slots:
        addresses = [(_text(host) or asked, int(port)) for host, port, *_ in nodes]
        primaries[first : last + 1] = addresses[:1] * (last + 1 - first)
        known.update(dict.fromkeys(addresses))
    return primaries, list(known)


def _text(host: bytes | str | None) -> str:
    """A node's name; "" where it is that of the node that was asked."""
    text = host.decode() if isinstance(host, bytes) else host or ""
    return "" if text == "?" else text


# -- any client ----------------------------------------------------------------------------------------------------


def execute_commands(client: t.Any, *commands: Command) -> list[t.Any]:
    """Send commands at once over one connection of any client but redis-py's for clusters."""
    if isinstance(client, (Server, Cluster)):
        return client.execute_commands(*commands)
    pipeline = client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    replies: list[t.Any] = pipeline.execute(raise_on_error=False)  # it would put the commands into the error's text
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies


def execute_each(client: t.Any, commands: t.Sequence[Command]) -> list[t.Any]:
    """Send commands that have nothing to do with each other, as many at once as the client can."""
    if isinstance(client, Cluster):
        return client.execute_each(commands)
    if commands and (isinstance(client, Server) or hasattr(client, "pipeline")):
        return execute_commands(client, *commands)
    return [client.execute_command(*command) for command in commands]


def read_each(client: t.Any, names: t.Sequence[str]) -> list[bytes | None]:
    """What stands under each of these names; None where nothing does."""
    if isinstance(client, (Cluster, redis.RedisCluster)):
        return execute_each(client, [("GET", name) for name in names])
    return t.cast("list[bytes | None]", client.execute_command("MGET", *names)) if names else []


def hosts_in_clear_text(client: t.Any) -> list[str]:
    """The hosts to which a client's connections are not encrypted. Other clients than redis-py's do not tell."""
    pools = [getattr(one, "connection_pool", None) for one in primaries(client)]
    return [host for pool in pools if pool is not None and (host := _host_in_clear_text(pool)) is not None]


def _host_in_clear_text(pool: redis.ConnectionPool) -> str | None:
    if issubclass(pool.connection_class, (redis.SSLConnection, redis.UnixDomainSocketConnection)):
        return None
    if isinstance(pool, SentinelConnectionPool):
        return t.cast("str", pool.get_master_address()[0])  # type: ignore[no-untyped-call]
    return t.cast("str | None", pool.connection_kwargs.get("host", "localhost"))


def primaries(client: t.Any) -> list[t.Any]:
    """Clients of the servers that share the keys among them."""
    if isinstance(client, Cluster):
        return client.primaries()
    if isinstance(client, redis.RedisCluster):
        nodes = client.get_primaries()  # type: ignore[no-untyped-call]
        return [client.get_redis_connection(node) for node in nodes]
    return [client]
