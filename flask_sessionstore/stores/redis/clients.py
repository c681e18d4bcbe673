"""Clients for RedisStore: of one server, of the primary that Sentinels name, of a cluster.

They speak over redis-py's connections, which are lent out by our own pool: redis-py's pool costs as much as the round
trip. What is lost is found anew, once: a server that restarted, a primary that moved. What does not answer in time is
not asked again, so that a request waits no longer than the time-outs.
"""

from __future__ import annotations

import functools
import re
import typing as t

import redis
from redis import exceptions
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from ..pool import MAX_CONNECTIONS, Pool

Address = tuple[str, int]
Command = tuple[t.Any, ...]
#: Whether a reply can be the one to a command.
Accept = t.Callable[[t.Any], bool]

#: Seconds to wait for a connection, and for an answer, where the URL says nothing else.
CONNECT_TIMEOUT, TIMEOUT = 1.0, 2.0

# Error replies of a server that is the right one, and well.
_ANSWERS = (exceptions.NoScriptError, exceptions.OutOfMemoryError)
# redis-py 5 leaves the first word, later ones make it the exception's class.
_REDIRECTION = re.compile(r"(?:(?:MOVED|ASK) )?\d+ (?P<host>\S*):(?P<port>\d+)")
_REDIRECTIONS = 5


class Server:
    """A client of one server: whichever the pool's connections lead to.

    :param pool: says how connections are made; it holds none.
    :param most: how many connections there may be at once in one process.
    """

    #: Whether commands that are sent at once go over one connection: what WAIT counts.
    can_wait = True

    def __init__(self, pool: redis.ConnectionPool, most: int = MAX_CONNECTIONS) -> None:
        #: As redis-py's own clients have it.
        self.connection_pool = pool
        connect = functools.partial(_connect, pool)
        self._pool: Pool[t.Any] = Pool(connect, _disconnect, most=most, patience=_patience(pool), is_sound=_is_sound)

    def execute_command(self, *args: t.Any) -> t.Any:
        """Send one command, return its reply."""
        return self._send(_exchange, None, args)

    def ask(self, command: Command, accept: Accept | None = None) -> t.Any:
        """Send one command, return its reply.

        :param accept: whether a reply can be the one to this command. If not, it is asked for once more, on a new
            connection; what that brings is returned, acceptable or not.
        """
        return self._send(_exchange, accept, command)

    def execute_commands(self, *commands: Command, accept: Accept | None = None) -> list[t.Any]:
        """Send commands at once over one connection, return their replies; the first error among them is raised.

        :param accept: as of :meth:`ask`, for the last reply.
        """
        return t.cast("list[t.Any]", self._send(_exchange_all, accept, commands))

    def execute_each(self, commands: t.Sequence[Command]) -> list[t.Any]:
        """Send commands that have nothing to do with each other, at once."""
        return self.execute_commands(*commands) if commands else []

    def read_each(self, names: t.Sequence[str]) -> list[t.Any]:
        """What stands under each of these names; None where nothing does."""
        return t.cast("list[t.Any]", self.execute_command("MGET", *names)) if names else []

    def primaries(self) -> list[t.Any]:
        """The servers that share the keys among them: this one."""
        return [self]

    def _send(self, exchange: t.Callable[..., t.Any], accept: Accept | None, what: Command) -> t.Any:
        try:
            return self._pool.lend(exchange, accept, what)
        except _CannotConnect:
            raise  # in vain once is enough
        except (exceptions.ConnectionError, exceptions.ReadOnlyError, _Unacceptable):
            # The server closes what is idle, and a restarted one knows no connections; what was the primary may be a
            # replica by now. Sending twice is safe: every write carries a revision by which a store knows its own.
            self._pool.clear()  # the others are likely to be as bad
        try:
            return self._pool.lend(exchange, accept, what)
        except _Unacceptable as answer:
            return answer.reply


class _CannotConnect(exceptions.ConnectionError):
    """No connection can be made."""


class _Unacceptable(Exception):
    """A reply that belongs to another command. Its connection is closed: all further ones would, too."""

    def __init__(self, reply: t.Any) -> None:
        super().__init__("a reply to another command")
        self.reply = reply


def _patience(pool: redis.ConnectionPool) -> float:
    """How long to wait for a free connection, in seconds: as for an answer."""
    return t.cast("float", pool.connection_kwargs.get("socket_timeout") or TIMEOUT)


def _connect(pool: redis.ConnectionPool) -> t.Any:
    connection = pool.connection_class(**pool.connection_kwargs)
    try:
        connection.connect()  # a Sentinel's asks for the primary first
        return connection
    except exceptions.ConnectionError as error:
        why = str(error)
    raise _CannotConnect(why)  # outside: what a server repeats of a password would be its context


def _disconnect(connection: t.Any) -> None:
    connection.disconnect()


def _is_sound(error: BaseException) -> bool:
    return isinstance(error, _ANSWERS)


def _exchange(connection: t.Any, accept: Accept | None, command: Command) -> t.Any:
    connection.send_command(*command, check_health=False)
    reply = connection.read_response()
    if accept is not None and not accept(reply):
        raise _Unacceptable(reply)
    return reply


def _exchange_all(connection: t.Any, accept: Accept | None, commands: Command) -> list[t.Any]:
    connection.send_packed_command(connection.pack_commands(commands), check_health=False)
    replies, errors = [], []
    for _ in commands:
        try:
            replies.append(connection.read_response())
        except exceptions.ResponseError as error:
            errors.append(error)
    if errors:
        raise errors[0]
    if accept is not None and not accept(replies[-1]):
        raise _Unacceptable(replies)
    return replies


class Cluster:
    """A client of a cluster: each command goes to the primary of its key.

    redis-py's own asks all silent nodes in turn, a time-out each, before it gives up, and in new releases other threads
    queue behind that; old ones close connections that other threads are using, and forget nodes that failed for good.

    :param seeds: nodes to ask for the others.
    :param make_node: makes the client of a node.
    """

    #: As of :class:`Server`.
    can_wait = True

    def __init__(self, seeds: t.Sequence[Address], make_node: t.Callable[[Address], Server]) -> None:
        self._seeds, self._make_node = tuple(seeds), make_node
        # Threads need no lock: each of these is replaced as a whole, but for nodes that join in one step.
        self._known = self._seeds  # in the order in which they are asked
        self._nodes: dict[Address, Server] = {}
        self._primaries: list[Address | None] = []  # by slot; empty: to be asked for

    def execute_command(self, *args: t.Any) -> t.Any:
        """Send one command, return its reply."""
        return self.execute_commands(args)[0]

    def ask(self, command: Command, accept: Accept | None = None) -> t.Any:
        """Send one command, return its reply; ``accept`` as of :meth:`Server.ask`."""
        return self.execute_commands(command, accept=accept)[0]

    def execute_commands(self, *commands: Command, accept: Accept | None = None) -> list[t.Any]:
        """Send commands at once over one connection, to the primary of the first one's key."""
        slot = _slot(commands[0])
        address, asking = self._primary(slot), False
        for _ in range(_REDIRECTIONS):
            try:
                if asking:
                    return self._node(address).execute_commands(("ASKING",), *commands, accept=accept)[1:]
                return self._node(address).execute_commands(*commands, accept=accept)
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

    def read_each(self, names: t.Sequence[str]) -> list[t.Any]:
        """What stands under each of these names; None where nothing does."""
        return self.execute_each([("GET", name) for name in names])

    def primaries(self) -> list[t.Any]:
        """Clients of all primaries that there are now."""
        return [self._node(address) for address in dict.fromkeys(self._ask()) if address is not None]

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
        return self._nodes.get(address) or self._nodes.setdefault(address, self._make_node(address))

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
