"""Two emulators of DynamoDB, by different authors. They behave differently in places."""

from __future__ import annotations

import contextlib
import copy
import functools
import sys
import typing as t
from pathlib import Path

from servers import Server, program

from flask_sessionstore import StoreUnavailable
from flask_sessionstore.stores.dynamodb import DynamoDBStore

#: Any region will do for an emulator.
REGION, TABLE = "eu-central-1", "sessions"
URL = f"dynamodb://{REGION}/{TABLE}"

#: Credentials, as boto3 finds them before any others. An emulator takes these, too.
ANYBODY = {
    "AWS_ACCESS_KEY_ID": "anybody",
    "AWS_SECRET_ACCESS_KEY": "secret-of-anybody",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class DynamoDBServer(Server):
    """A server with the table for the sessions."""

    name: t.ClassVar[str]
    #: Whether it knows DynamoDB's time to live. No emulator removes items by it.
    has_ttl: t.ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__(program(self.name))

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        super().start()
        for _ in range(10):  # to its first request it may not answer in time: it imports what answers
            with contextlib.suppress(StoreUnavailable):
                self.store().create_schema()
                return
            if not self.has_ttl:  # the table is there all the same
                return
        raise RuntimeError("the server does not answer:\n" + "".join(self.log))

    def store(self, **options: t.Any) -> DynamoDBStore:
        """A store made from a URL."""
        return DynamoDBStore.from_url(URL, endpoint_url=self.endpoint_url, **options)

    def copy_of_store(self, prefix: str) -> DynamoDBStore:
        """One with the client of all copies: to make a client takes longer than most tests."""
        store = copy.copy(self._store)
        store.prefix = prefix
        return store

    @functools.cached_property
    def _store(self) -> DynamoDBStore:
        return self.store()


# moto first checks a condition and then writes. Its own program has threads, so that two requests could both succeed.
_ONE_AT_A_TIME = """
import sys
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple
run_simple("127.0.0.1", int(sys.argv[1]), DomainDispatcherApplication(create_backend_app))
"""


class MotoServer(DynamoDBServer):
    """moto, an emulator of Amazon's services in Python. After a restart it is empty."""

    name = "moto"
    ready = "Running on"

    def command(self, port: int) -> list[str | Path]:
        return [sys.executable, "-c", _ONE_AT_A_TIME, str(port)]


class DynaliteServer(DynamoDBServer):
    """dynalite, an emulator for Node.js, over LevelDB. It keeps its items over a restart."""

    name = "dynalite"
    ready = "listening at"
    has_ttl = False

    def command(self, port: int) -> list[str | Path]:
        waits = ["--createTableMs", "0", "--deleteTableMs", "0", "--updateTableMs", "0"]
        return [self.program, "--host", "127.0.0.1", "--port", str(port), "--path", str(self.folder / "db"), *waits]


EMULATORS: dict[str, type[DynamoDBServer]] = {"moto": MotoServer, "dynalite": DynaliteServer}
