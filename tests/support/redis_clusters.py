"""Redis beyond one server: a cluster, and a primary with replicas watched by Sentinels.

All of it runs on the loopback interface from one server's program alone, and ends with its starter.
"""

from __future__ import annotations

import contextlib
import functools
import subprocess
import threading
import time
import typing as t
from pathlib import Path

import redis
from redis.crc import key_slot
from redis.sentinel import Sentinel
from servers import LEASH, RedisServer, _answers, _free_port

from flask_sessionstore import StoreUnavailable

#: The name under which Sentinels know the primary.
SERVICE = "mymaster"
# Servers count as gone after two or three seconds of silence: sooner, a busy machine would look like an outage.
#: The passwords of the servers that Sentinels watch, and of the Sentinels.
PASSWORD, SENTINEL_PASSWORD = "of-the-servers", "of-the-sentinels"
_SLOTS = 16384


def until(condition: t.Callable[[], t.Any], seconds: float = 60) -> t.Any:
    """Call ``condition`` until its result is true, and return the result."""
    deadline, pause = time.monotonic() + seconds, threading.Event()
    while time.monotonic() < deadline:
        with contextlib.suppress(redis.exceptions.RedisError, StoreUnavailable):
            if result := condition():
                return result
        pause.wait(0.01)
    raise TimeoutError(f"not within {seconds} seconds")


class _Servers:
    """Several servers that belong together; as a context manager they run inside the block."""

    def __init__(self, program: Path) -> None:
        self.program = program
        self.servers: list[RedisServer] = []
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> t.Self:
        with contextlib.ExitStack() as stack:
            self._stack = stack
            self.start()
            stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def start(self) -> None:
        raise NotImplementedError

    def launch(self, **options: str) -> RedisServer:
        server = self._stack.enter_context(RedisServer(self.program, repl_diskless_sync_delay="0", **options))
        self.servers.append(server)
        return server

    def ask(self, server: RedisServer, *command: t.Any) -> t.Any:
        """Send a command to one of the servers."""
        password = server.options.get("requirepass")
        with redis.Redis(port=server.port, password=password, decode_responses=True, socket_timeout=5) as client:
            return client.execute_command(*command)

    def at(self, port: int) -> RedisServer:
        return next(server for server in self.servers if server.port == port)

    def linked(self, server: RedisServer) -> bool:
        """Whether a replica follows its primary."""
        info = self.ask(server, "INFO", "replication")
        return bool(info["role"] == "slave" and info["master_link_status"] == "up")

    def replicated(self, primary: RedisServer, replicas: int, key: str = "a write to wait for") -> bool:
        """Whether so many replicas have everything that ``primary`` has written up to now."""
        with redis.Redis(
            port=primary.port, password=primary.options.get("requirepass"), single_connection_client=True
        ) as client:
            client.set(key, 1)
            return bool(client.execute_command("WAIT", replicas, 2000) >= replicas)


class RedisCluster(_Servers):
    """Three primaries with one replica each."""

    def start(self) -> None:
        for _ in range(6):
            self.launch(
                cluster_enabled="yes", cluster_config_file="nodes.conf", cluster_node_timeout="3000",
                cluster_replica_validity_factor="0", cluster_port=str(_free_port()),
            )  # fmt: skip
        first, second, third, *replicas = self.servers
        primaries = (first, second, third)
        for epoch, primary in enumerate(primaries):
            slots = epoch * _SLOTS // 3, (epoch + 1) * _SLOTS // 3 - 1
            self.ask(primary, "CLUSTER ADDSLOTSRANGE", *slots)
            self.ask(primary, "CLUSTER SET-CONFIG-EPOCH", epoch + 1)
        for server in self.servers[1:]:
            self.ask(first, "CLUSTER MEET", "127.0.0.1", server.port, server.options["cluster_port"])
        for replica, primary in zip(replicas, primaries, strict=True):
            name = self.ask(primary, "CLUSTER MYID")
            until(functools.partial(self.ask, replica, "CLUSTER REPLICATE", name))
        until(self.settled)

    def settled(self) -> bool:
        """Whether every slot is served, every node knows so, and every replica follows."""
        return all(
            self.ask(server, "CLUSTER INFO")["cluster_state"] == "ok"
            and (server.port in self._primary_ports(server) or self.linked(server))
            for server in self.servers
        ) and all(len(self._primary_ports(server)) == 3 for server in self.servers)

    def primaries(self) -> list[RedisServer]:
        """The primaries, as the first server knows them."""
        return [self.at(port) for port in self._primary_ports(self.servers[0])]

    def _primary_ports(self, asked: RedisServer) -> set[int]:
        return {node[1] for _, _, node, *_ in self._slots(asked)}

    def _slots(self, asked: RedisServer) -> list[t.Any]:
        with redis.Redis(port=asked.port, decode_responses=True) as client:
            connection = client.connection_pool.make_connection()
            connection.connect()
            connection.send_command("CLUSTER SLOTS")  # raw: redis-py's form of this reply differs by version
            reply: list[t.Any] = connection.read_response()
            connection.disconnect()
        return reply

    def owner(self, key: str) -> RedisServer:
        """The primary of a key, by the view of the servers that run."""
        return self.at(self._nodes(key)[0])

    def replica(self, key: str) -> RedisServer:
        """The replica of a key's primary."""
        return self.at(self._nodes(key)[1])

    def _nodes(self, key: str) -> list[int]:
        asked = next(server for server in self.servers if server.running)
        slot = key_slot(key.encode())
        return next([node[1] for node in nodes] for first, last, *nodes in self._slots(asked) if first <= slot <= last)

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in self.servers)


class _Sentinel(RedisServer):
    """One Sentinel: the same program in another mode. It writes to its own configuration file."""

    def _launch(self, port: int) -> bool:
        settings = self.folder / "sentinel.conf"
        watched = self.options["monitor"]
        settings.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {self.folder}\nrequirepass {SENTINEL_PASSWORD}\n"
            f"sentinel sentinel-pass {SENTINEL_PASSWORD}\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {watched} 2\n"
            f"sentinel auth-pass {SERVICE} {PASSWORD}\n"
            f"sentinel down-after-milliseconds {SERVICE} 2000\n"
            f"sentinel failover-timeout {SERVICE} 3000\n"
        )
        self._process = subprocess.Popen(
            [*LEASH, self.program, settings, "--sentinel"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        threading.Thread(target=self._read_log, args=(self._process, threading.Event()), daemon=True).start()
        with contextlib.suppress(TimeoutError):
            until(lambda: _answers(port) or not self.running)
        if not (self.running and _answers(port)):
            self.kill()
            return False
        self.port = port
        return True


class SentinelTrio(_Servers):
    """A primary, two replicas, and three Sentinels to watch over them."""

    def start(self) -> None:
        primary, *replicas = [self.launch(requirepass=PASSWORD, masterauth=PASSWORD) for _ in range(3)]
        for replica in replicas:
            self.ask(replica, "REPLICAOF", "127.0.0.1", primary.port)
        until(lambda: all(map(self.linked, replicas)) and self.replicated(primary, 2))
        self.sentinels = [
            self._stack.enter_context(_Sentinel(self.program, monitor=str(primary.port), requirepass=SENTINEL_PASSWORD))
            for _ in range(3)
        ]
        until(lambda: all(map(self._ready, self.sentinels)))

    def _ready(self, sentinel: RedisServer) -> bool:
        reply = self.ask(sentinel, "SENTINEL", "MASTER", SERVICE)
        state = reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))
        return all(str(state[name]) == "2" for name in ("num-slaves", "num-other-sentinels"))

    def revive(self, server: RedisServer) -> None:
        """Start a killed server again, as a replica of the present primary."""
        server.start()
        until(lambda: self._follows(server), seconds=60)

    def _follows(self, server: RedisServer) -> bool:
        primary = self.primary()
        if primary is None:
            return False
        # Repeated until it holds, since the Sentinels also reconfigure a server that comes back.
        self.ask(server, "REPLICAOF", "127.0.0.1", primary.port)
        return bool(self.replicated(primary, 2))

    def primary(self) -> RedisServer | None:
        """The primary; None while the Sentinels do not agree."""
        ports = {
            int(self.ask(sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)[1]) for sentinel in self.sentinels
        }
        return self.at(ports.pop()) if len(ports) == 1 else None

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://:{PASSWORD}@{hosts}/{SERVICE}?sentinel_password={SENTINEL_PASSWORD}"

    def client(self) -> redis.Redis:
        """redis-py's client for the primary."""
        addresses = [("127.0.0.1", sentinel.port) for sentinel in self.sentinels]
        sentinel = Sentinel(addresses, sentinel_kwargs={"password": SENTINEL_PASSWORD})  # type: ignore[no-untyped-call]
        return t.cast("redis.Redis", sentinel.master_for(SERVICE, password=PASSWORD))  # type: ignore[no-untyped-call]
