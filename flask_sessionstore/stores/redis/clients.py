"""Clients for RedisStore: of one server, of the primary that Sentinels name, of a cluster.

They use redis-py's connections, but a pool of our own: redis-py's pool takes as much time as a round trip. After a lost
connection a command is sent once more, to the restarted server or to the new primary. After a time-out it is not sent
again, so that a request waits no longer than the time-outs.
"""

from __future__ import annotations

import contextlib
import functools
import re
import time
import typing as t

import redis
from redis import exceptions
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.sentinel import MasterNotFoundError

from ..engines import CONNECT_TIMEOUT, TIMEOUT
from ..pool import MAX_CONNECTIONS, Pool

hiredis: t.Any = None
with contextlib.suppress(ImportError):  # an extra of redis-py
    import hiredis

Address = tuple[str, int]
Command = tuple[t.Any, ...]
#: Tells whether a reply can belong to a command.
Accept = t.Callable[[t.Any], bool]

# Error replies of the right server, in good order.
_ANSWERS = (exceptions.NoScriptError, exceptions.OutOfMemoryError)
# redis-py 5 leaves the first word in the text, later versions turn it into the exception's class.
_REDIRECTION = re.compile(r"(?:(?:MOVED|ASK) )?\d+ (?P<host>\S*):(?P<port>\d+)")
_REDIRECTIONS = 5
# Sentinels that name no primary, and took so many seconds for that, did not answer. Others say at once that there
# is none.
_HANGS = CONNECT_TIMEOUT / 4
# What another error than a plain "ERR" begins with: "WRONGTYPE Operation against a key ...".
_CODE = re.compile(r"[A-Z]+ ")
# The first versions that have SET with IFEQ, by the name that the server says in its greeting.
_IFEQ_SINCE, _NEVER = {b"valkey": (8, 1), b"redis": (8, 4)}, (1 << 32,)


class Server:
    """A client of one server: the server to which the pool's connections lead.

    :param pool: tells how to make connections; it does not hold any.
    :param most: how many connections there may be at once in one process.
    """

    #: Whether commands that are sent at once go over one connection: WAIT counts the writes of its own connection.
    can_wait = True

    def __init__(self, pool: redis.ConnectionPool, most: int = MAX_CONNECTIONS) -> None:
        #: The same attribute as in redis-py's own clients.
        self.connection_pool = pool
        self._found = _Found()
        connect, close = functools.partial(_connect, pool, self._found), _Connection.close
        self._pool: Pool[_Connection] = Pool(connect, close, most=most, patience=_patience(pool), is_sound=_is_sound)

    def execute_command(self, *args: t.Any) -> t.Any:
        """Send one command, return its reply. As in redis-py, its name may consist of two words."""
        return self._send(_Connection.ask, None, _words(args))

    def ask(self, command: Command, accept: Accept | None = None) -> t.Any:
        """Send one command, return its reply.

        :param accept: tells whether a reply can belong to this command. If not, the command is sent once more on a new
            connection, and then its reply is returned in any case.
        """
        return self._send(_Connection.ask, accept, command)

    @property
    def may_compare(self) -> bool:
        """False if :meth:`compare_and_set` found no server that does it, and no connection was made since."""
        return self._found.may_compare

    def compare_and_set(self, command: Command, accept: Accept) -> t.Any:
        """Send a SET with IFEQ, return its reply; None also if this server does not have it, or refuses it.

        :param accept: as in :meth:`ask`.
        :raises NotAsked: if that is known already.
        """
        return self._send(_Connection.compare_and_set, accept, command)

    def execute_commands(self, *commands: Command, accept: Accept | None = None) -> list[t.Any]:
        """Send commands at once over one connection, return their replies; the first error among the replies is raised.

        :param accept: as in :meth:`ask`, for the last reply.
        """
        return t.cast("list[t.Any]", self._send(_Connection.ask_all, accept, commands))

    def execute_each(self, commands: t.Sequence[Command]) -> list[t.Any]:
        """Send independent commands at once."""
        return self.execute_commands(*commands) if commands else []

    def read_each(self, names: t.Sequence[str]) -> list[t.Any]:
        """The bytes under each of these names; None for a name without bytes."""
        return t.cast("list[t.Any]", self.execute_command("MGET", *names)) if names else []

    def primaries(self) -> list[t.Any]:
        """The servers that hold a part of the keys: only this one."""
        return [self]

    def _send(self, exchange: t.Callable[..., t.Any], accept: Accept | None, what: Command) -> t.Any:
        try:
            return self._pool.lend(exchange, accept, what)
        except _CannotConnect:
            raise  # a new connection failed, so trying again would not help
        except (exceptions.ConnectionError, exceptions.ReadOnlyError, _Unacceptable):
            # The server may have closed an idle connection, or have restarted; the former primary may be a replica now.
            # A write may be sent twice: see engines.
            self._pool.clear()  # the other connections are probably bad too
        try:
            return self._pool.lend(exchange, accept, what)
        except _Unacceptable as answer:
            return answer.reply


class _CannotConnect(exceptions.ConnectionError):
    """A new connection could not be made."""


class NotAsked(Exception):
    """Nothing was sent: it is known that the server would refuse it. So this says nothing about the server's health."""


class _Unacceptable(Exception):
    """A reply to another command. Its connection is closed, since all further replies would be wrong too."""

    def __init__(self, reply: t.Any) -> None:
        super().__init__("a reply to another command")
        self.reply = reply


def _patience(pool: redis.ConnectionPool) -> float:
    """How long to wait for a free connection, in seconds: as long as for a reply."""
    return t.cast("float", pool.connection_kwargs.get("socket_timeout") or TIMEOUT)


class _Found:
    """What connections have found out about their servers."""

    __slots__ = ("may_compare",)

    def __init__(self) -> None:
        self.may_compare = True


def _connect(pool: redis.ConnectionPool, found: _Found) -> _Connection:
    connection = _Connection(pool.connection_class(**pool.connection_kwargs), found)
    connection.open()
    return connection


def _is_sound(error: BaseException) -> bool:
    return isinstance(error, (*_ANSWERS, NotAsked))


class _Connection:
    """A connection of redis-py to a server, and whether this server has SET with IFEQ."""

    __slots__ = ("_compares", "_connection", "_found")

    def __init__(self, connection: t.Any, found: _Found) -> None:
        self._connection, self._found = connection, found
        self._compares: bool | None = None  # not known yet

    def open(self) -> None:
        began = time.monotonic()
        try:
            self._connection.connect()  # with Sentinels, this asks them for the primary first
            self._found.may_compare = True  # this server may be another one
            return
        except exceptions.ConnectionError as error:
            why, no_primary = str(error), isinstance(error, MasterNotFoundError)
        # Outside, since the server's error may repeat the password, and would be the context.
        if no_primary and time.monotonic() - began >= _HANGS:
            raise exceptions.TimeoutError(why)
        raise _CannotConnect(why)

    def close(self) -> None:
        self._connection.disconnect()

    def ask(self, accept: Accept | None, command: Command) -> t.Any:
        self._connection.send_packed_command(self._pack(command), check_health=False)
        reply = self._connection.read_response()
        if accept is not None and not accept(reply):
            raise _Unacceptable(reply)
        return reply

    def ask_all(self, accept: Accept | None, commands: Command) -> list[t.Any]:
        packed = b"".join([part for command in commands for part in self._pack(command)])
        self._connection.send_packed_command((packed,), check_health=False)
        replies, errors = [], []
        for _ in commands:
            try:
                replies.append(self._connection.read_response())
            except exceptions.ResponseError as error:
                errors.append(error)
        if errors:
            raise errors[0]
        if accept is not None and not accept(replies[-1]):
            raise _Unacceptable(replies)
        return replies

    def compare_and_set(self, accept: Accept, command: Command) -> t.Any:
        if self._compares is False:
            self._found.may_compare = False
            raise NotAsked
        if self._compares is None:
            self._compares = self._can_compare()
        try:
            if self._compares:
                return self.ask(accept, command)
        except exceptions.ResponseError as error:
            if not is_refusal(error):
                raise
        self._compares = self._found.may_compare = False
        return None

    def _can_compare(self) -> bool:
        """Ask the server for its version. (It may refuse INFO, but an ACL cannot forbid HELLO.)"""
        try:
            return _has_ifeq(self.ask(_is_greeting, ("HELLO",)))
        except exceptions.ResponseError:
            return False
        except (exceptions.ConnectionError, _Unacceptable):  # some proxies close the connection at an unknown command
            self.close()
        self.open()
        return False

    def _pack(self, command: Command) -> t.Sequence[bytes]:
        # redis-py calls the same function, but looks at each argument before.
        if hiredis is None:
            return t.cast("list[bytes]", self._connection.pack_command(*command))
        return (hiredis.pack_command(command),)


def _words(args: Command) -> Command:
    return (*args[0].split(), *args[1:])


def _is_greeting(reply: t.Any) -> bool:
    return isinstance(reply, (list, dict)) and b"server" in reply


def _has_ifeq(greeting: list[t.Any] | dict[t.Any, t.Any]) -> bool:
    """Whether a server has SET with IFEQ, by its reply to HELLO."""
    fields = greeting if isinstance(greeting, dict) else dict(zip(greeting[::2], greeting[1::2], strict=False))
    version = tuple(map(int, re.findall(rb"\d+", fields.get(b"version", b""))))
    return version >= _IFEQ_SINCE.get(fields[b"server"], _NEVER)


def is_refusal(error: exceptions.ResponseError) -> bool:
    """Whether a server does not know a command or does not permit it, whatever its state and the key."""
    if isinstance(error, exceptions.NoPermissionError):
        return True
    return type(error) is exceptions.ResponseError and _CODE.match(str(error)) is None


class Cluster:
    """A client of a cluster: each command goes to the primary of its key.

    redis-py's own client asks all silent nodes in turn, and waits for a time-out each, before it gives up. In new
    releases, other threads wait meanwhile. Old releases close connections that other threads are using, and never ask a
    failed node again.

    :param seeds: nodes to ask for the other nodes.
    :param make_node: makes the client of a node.
    """

    #: As in :class:`Server`.
    can_wait = True

    def __init__(self, seeds: t.Sequence[Address], make_node: t.Callable[[Address], Server]) -> None:
        self._seeds, self._make_node = tuple(seeds), make_node
        # Threads need no lock: each of these is replaced as a whole; a new node is added to the dict in one step.
        self._known = self._seeds  # in the order in which they are asked
        self._nodes: dict[Address, Server] = {}
        self._primaries: list[Address | None] = []  # by slot; empty: not known (any more)

    def execute_command(self, *args: t.Any) -> t.Any:
        """Send one command, return its reply; as :meth:`Server.execute_command`."""
        return self.execute_commands(_words(args))[0]

    def ask(self, command: Command, accept: Accept | None = None) -> t.Any:
        """Send one command, return its reply; ``accept`` as in :meth:`Server.ask`."""
        return self.execute_commands(command, accept=accept)[0]

    @property
    def may_compare(self) -> bool:
        """False if no node is known that may do it."""
        return any(node.may_compare for node in list(self._nodes.values()))

    def compare_and_set(self, command: Command, accept: Accept) -> t.Any:
        """As :meth:`Server.compare_and_set`. Nothing is sent to a node to which the slot just moves."""

        def send(node: Server, asking: bool) -> t.Any:
            if asking:
                raise NotAsked
            return node.compare_and_set(command, accept)

        return self._at_primary(command, send)

    def execute_commands(self, *commands: Command, accept: Accept | None = None) -> list[t.Any]:
        """Send commands at once over one connection, to the primary of the first command's key."""

        def send(node: Server, asking: bool) -> list[t.Any]:
            if asking:
                asked = [part for command in commands for part in (("ASKING",), command)]
                return node.execute_commands(*asked, accept=accept)[1::2]
            return node.execute_commands(*commands, accept=accept)

        return t.cast("list[t.Any]", self._at_primary(commands[0], send))

    def _at_primary(self, command: Command, send: t.Callable[[Server, bool], t.Any]) -> t.Any:
        """What ``send`` returns for the primary of the command's key. It is called again for a node to which the
        cluster redirects (True: ASKING has to precede each command), and for a node that has taken over.
        """
        slot = _slot(command)
        address, asking = self._primary(slot), False
        for _ in range(_REDIRECTIONS):
            try:
                return send(self._node(address), asking)
            except _ANSWERS:
                raise
            except exceptions.ResponseError as error:
                address, asking = self._redirected(error, address), True
            except exceptions.ConnectionError as error:
                address, asking = self._successor(error, address, slot), False
            except BaseException:
                self._distrust(address)
                raise
        raise exceptions.ConnectionError("the cluster's nodes redirect a command again and again")

    def execute_each(self, commands: t.Sequence[Command]) -> list[t.Any]:
        """Send independent commands: those for the same primary at once."""
        groups: dict[Address, list[int]] = {}
        for number, command in enumerate(commands):
            groups.setdefault(self._primary(_slot(command)), []).append(number)
        replies: dict[int, t.Any] = {}
        for address, numbers in groups.items():
            replies.update(zip(numbers, self._execute_at(address, [commands[n] for n in numbers]), strict=True))
        return [replies[number] for number in range(len(commands))]

    def read_each(self, names: t.Sequence[str]) -> list[t.Any]:
        """The bytes under each of these names; None for a name without bytes."""
        return self.execute_each([("GET", name) for name in names])

    def primaries(self) -> list[t.Any]:
        """Clients of all current primaries."""
        return [self._node(address) for address in dict.fromkeys(self._ask()) if address is not None]

    def _execute_at(self, address: Address, commands: list[Command]) -> list[t.Any]:
        try:
            return self._node(address).execute_commands(*commands)
        except (exceptions.ResponseError, exceptions.ConnectionError):
            # Some keys may be on another node by now: send each command by itself, which finds its node, or fails.
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
        """The address to which an error reply redirects. (After a MOVED, the ASKING that is sent does no harm.)"""
        found = _REDIRECTION.fullmatch(str(error))
        if found is None:
            self._distrust(address)
            raise error
        self._primaries = []
        return found["host"] or address[0], int(found["port"])

    def _successor(self, error: exceptions.ConnectionError, address: Address, slot: int) -> Address:
        """The node that has taken over from a failed node, if there is one by now."""
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
        """Ask for the primaries: of the first node that can be reached and knows all of them."""
        primaries: list[Address | None] = []
        for address in self._known:
            try:
                slots = self._node(address).execute_command("CLUSTER", "SLOTS")
            except exceptions.ConnectionError:
                self._distrust(address)
                continue
            except BaseException:
                self._distrust(address)  # the next request asks another node
                raise
            found, nodes = _parse(slots, address[0])
            primaries = min(primaries or found, found, key=lambda known: known.count(None))
            if None not in found:
                self._known = (*nodes, *(seed for seed in self._seeds if seed not in nodes))
                self._nodes = {address: node for address, node in dict(self._nodes).items() if address in self._known}
                break
            self._distrust(address)  # the cluster is incomplete, or this node does not belong to it any more
        if not primaries:
            raise exceptions.ConnectionError("no node of the cluster can be reached")
        self._primaries = primaries
        return primaries


def _slot(command: Command) -> int:
    key = command[3] if command[0].startswith("EVAL") else command[1]
    return key_slot(key if isinstance(key, bytes) else key.encode())


def _parse(slots: t.Any, asked: str) -> tuple[list[Address | None], list[Address]]:
    """The primary of every slot, and all nodes, from the reply of the node with the host name ``asked``."""
    primaries: list[Address | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
    known: dict[Address, None] = {}
    for first, last, *nodes in slots:
        addresses = [(_text(host) or asked, int(port)) for host, port, *_ in nodes]
        primaries[first : last + 1] = addresses[:1] * (last + 1 - first)
        known.update(dict.fromkeys(addresses))
    return primaries, list(known)


def _text(host: bytes | str | None) -> str:
    """A node's host name; "" for the node that was asked."""
    text = host.decode() if isinstance(host, bytes) else host or ""
    return "" if text == "?" else text
