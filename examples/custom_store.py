"""A store of your own: sessions in one SQLite file. To try it: flask --app examples/custom_store run"""

import secrets
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from flask import Flask

from flask_sessionstore import SessionManager, StoreUnavailable, session
from flask_sessionstore.stores import ServerSideStore, may_replace

TABLE = "CREATE TABLE IF NOT EXISTS sessions (handle PRIMARY KEY, expires_at, data)"
# Each of these is one statement, which SQLite runs as a whole or not at all. It returns a row if it did something.
READ = "SELECT data FROM sessions WHERE handle = :handle AND expires_at > :now"
ADD = """INSERT INTO sessions VALUES (:handle, :now + :ttl, :data) ON CONFLICT (handle) DO UPDATE
    SET expires_at = :now + :ttl, data = :data WHERE expires_at <= :now RETURNING 1"""
SWAP = """UPDATE sessions SET expires_at = :now + :ttl, data = :data
    WHERE handle = :handle AND expires_at > :now AND may_replace(data, :replaces) RETURNING 1"""


class SQLiteStore(ServerSideStore):
    def __init__(self, path: Path, *, prefix: str = "session:") -> None:
        super().__init__(prefix=prefix)
        self.path = path

    def read(self, handle: str) -> bytes | None:
        return next((data for (data,) in self._run(READ, handle)), None)

    def add(self, handle: str, data: bytes, ttl: timedelta) -> bool:
        return bool(self._run(ADD, handle, data, ttl=ttl.total_seconds()))

    def swap(self, handle: str, data: bytes, ttl: timedelta, *, replaces: bytes | None) -> bool:
        return bool(self._run(SWAP, handle, data, ttl=ttl.total_seconds(), replaces=replaces))

    def drop(self, handle: str) -> None:
        self._run("DELETE FROM sessions WHERE handle = :handle", handle)

    def _run(self, statement: str, handle: str, data: bytes = b"", **values: object) -> list[tuple[bytes]]:
        values |= {"handle": self.prefix + handle, "data": data}
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # nobody else may enter
            with closing(sqlite3.connect(self.path, isolation_level=None)) as db:  # each call has its own connection
                db.create_function("may_replace", 2, may_replace)
                db.execute(TABLE)
                return db.execute(statement, values | {"now": self.now()}).fetchall()
        except (OSError, sqlite3.Error) as error:
            raise StoreUnavailable("the session database cannot be used") from error


app = Flask(__name__)
app.secret_key = secrets.token_hex()  # gone when the process ends; so are the sessions
SessionManager(app, store=SQLiteStore(Path(app.instance_path, "custom_store", "sessions.db")))


@app.get("/")
def index() -> str:
    return f"Here since {session.setdefault('since', datetime.now(UTC)):%H:%M:%S} UTC\n"
