"""A proxy between the application and a server. It changes replies as networks, other proxies and faults do."""

from __future__ import annotations

import contextlib
import socket
import threading
import typing as t

Harm = t.Callable[["Wire", bytes], None]


class Wire:
    """One connection through the proxy."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        #: Set when the client has closed it.
        self.closed = threading.Event()

    def deliver(self, reply: bytes) -> None:
        """Send a reply to the client, if it is still there."""
        with contextlib.suppress(OSError):
            self.client.sendall(reply)

    def cut(self) -> None:
        """Close the connection on both sides, also for threads that read from it."""
        for side in (self.client, self.server):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)


class Proxy:
    """A TCP proxy on the loopback interface, in front of a server there. Inside its block it runs.

    :param port: the server's.
    :param mark: a text that is in the sessions of the test. Only replies that contain it are changed.
    :param is_whole: tells whether these bytes are a whole reply.
    """

    def __init__(self, port: int, mark: bytes, is_whole: t.Callable[[bytes], bool]) -> None:
        self._server, self._is_whole = port, is_whole
        self._marks = (mark, mark.hex().encode())  # PostgreSQL may write bytes in hexadecimal digits
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        #: All connections up to now.
        self.wires: list[Wire] = []
        #: The connections with a changed reply.
        self.harmed: list[Wire] = []
        #: The function that changes the reply.
        self.harm: Harm = Wire.deliver
        self._threads = [threading.Thread(target=self._accept)]
        self._waiting: tuple[Wire, bytes] | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> t.Self:
        self._threads[0].start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        for wire in self.wires:
            wire.cut()
        for thread in self._threads[1:]:
            thread.join()
        for wire in self.wires:
            wire.client.close()
            wire.server.close()
        self._listener.close()

    def cross(self, times: float) -> None:
        """So many times, wait for the replies to two connections, and deliver each to the other connection."""

        def harm(wire: Wire, reply: bytes) -> None:
            nonlocal times
            with self._lock:
                if times <= 0:
                    return wire.deliver(reply)
                self.harmed.append(wire)
                if self._waiting is None:
                    self._waiting = wire, reply
                    return None
                (other, others), self._waiting = self._waiting, None
                times -= 1
            other.deliver(reply)
            return wire.deliver(others)

        self.harm = harm

    def cut_once(self) -> None:
        """Deliver half of the next reply, and end the connection."""

        def cut(wire: Wire, reply: bytes) -> None:
            wire.deliver(reply[: len(reply) // 2])
            wire.cut()

        self._once(cut)

    def hold_once(self) -> threading.Event:
        """Deliver half of the next reply, and the rest when the event that is returned is set."""
        release = threading.Event()

        def hold(wire: Wire, reply: bytes) -> None:
            wire.deliver(reply[: len(reply) // 2])
            release.wait(30)
            wire.deliver(reply[len(reply) // 2 :])

        self._once(hold)
        return release

    def _once(self, what: Harm) -> None:
        def harm(wire: Wire, reply: bytes) -> None:
            self.harm = Wire.deliver
            self.harmed.append(wire)
            what(wire, reply)

        self.harm = harm

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            wire = Wire(client, socket.create_connection(("127.0.0.1", self._server)))
            self.wires.append(wire)
            for pump in (self._requests, self._replies):
                self._threads.append(threading.Thread(target=pump, args=(wire,)))
                self._threads[-1].start()

    def _requests(self, wire: Wire) -> None:
        with contextlib.suppress(OSError):
            while data := wire.client.recv(1 << 16):
                wire.server.sendall(data)
        wire.closed.set()
        wire.cut()

    def _replies(self, wire: Wire) -> None:
        with contextlib.suppress(OSError):
            while data := wire.server.recv(1 << 16):
                if any(mark in data for mark in self._marks):
                    while not self._is_whole(data):
                        data += wire.server.recv(1 << 16)
                    self.harm(wire, data)
                else:
                    wire.deliver(data)
        wire.cut()
