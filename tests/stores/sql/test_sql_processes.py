"""SQLAlchemyStore's connections across forks and greenlets."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import typing as t
from uuid import uuid4

import pytest
from sql_servers import DATABASES
from sql_stores import open_store, url_of

StartDatabase = t.Callable[[str], t.Any]


def run(script: str, *arguments: str) -> t.Any:
    """What a script of its own process prints, as JSON."""
    command = [sys.executable, "-W", "ignore", "-c", script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(params=DATABASES)
def server_url(request: pytest.FixtureRequest) -> str:
    """The URL of every shared server's database in turn, where the table is."""
    return url_of(request.param, request)


# -- forks -----------------------------------------------------------------------------------------------------------


# As uWSGI does it: the store was used, and the fork calls nothing of Python's. Both go on at the same time; then the
# child ends as a process does, with all that is done for objects in the end, and the parent goes on.
_FORK = """
import ctypes, gc, json, os, sys
from datetime import timedelta
import sqlalchemy as sa
from flask_sessionstore import Record
from flask_sessionstore.stores.sqlalchemy import SQLAlchemyStore

url, kind, prefix = sys.argv[1:]
if kind == "URL":
    store = SQLAlchemyStore.from_url(url, prefix=prefix)
else:
    store = SQLAlchemyStore(sa.create_engine(store_url(url), pool_size=1), prefix=prefix)
keys = {name: store.save(Record(state={"who": name.encode()}), timedelta(days=1)) for name in ("parent", "child")}
made = []
sa.event.listen(store.engine, "connect", lambda *_args: made.append(1))

read, write = os.pipe()
pid = ctypes.PyDLL(None).fork()
name = "parent" if pid else "child"
wrong = 0
for _ in range(100):
    try:
        wrong += store.load(keys[name]).state["who"] != name.encode()
    except Exception:
        wrong += 1
if pid == 0:
    os.write(write, json.dumps([wrong, len(made)]).encode())
    del store
    gc.collect()
    sys.exit()
os.waitpid(pid, 0)
wrong += store.load(keys[name]).state["who"] != b"parent"
print(json.dumps({"parent": [wrong, len(made)], "child": json.loads(os.read(read, 100))}))
""".replace("store_url(url)", 'url.replace("postgresql:", "postgresql+psycopg:").replace("mysql:", "mysql+pymysql:")')


@pytest.mark.parametrize("kind", ["URL", "Engine"])
def test_a_fork_in_c_shares_no_connection(server_url: str, kind: str) -> None:
    """A child connects for itself, and its parent's connection lives on after the child's end."""
    assert run(_FORK, server_url, kind, f"{uuid4()}:") == {"parent": [0, 0], "child": [0, 1]}


# -- greenlets -------------------------------------------------------------------------------------------------------


_GREENLETS = """
import collections, json, sys
library, when, url, prefix = sys.argv[1:]

def patch():
    if library == "gevent":
        from gevent import monkey
        monkey.patch_all()
    else:
        import eventlet
        eventlet.monkey_patch()

if when == "early":
    patch()
from datetime import timedelta
from flask_sessionstore import Record
from flask_sessionstore.stores.sqlalchemy import store as module
from flask_sessionstore.stores.sqlalchemy import SQLAlchemyStore

module.POOL_TIMEOUT = 60  # this machine may have much else to do
store = SQLAlchemyStore.from_url(url, prefix=prefix, max_connections=5)
names = [str(number) for number in range(20)]
keys = {name: store.save(Record(state={"who": name.encode()}), timedelta(days=1)) for name in names}
if when == "late":
    patch()
told = collections.Counter()

def visit(name):
    for _ in range(5):
        try:
            found = store.load(keys[name]).state["who"].decode()
            told["right" if found == name else "another's"] += 1
            store.update_ttl(keys[name])
        except Exception as error:
            told[type(error).__name__] += 1

if library == "gevent":
    import gevent
    gevent.joinall([gevent.spawn(visit, name) for name in names])
else:
    import eventlet
    threads = [eventlet.spawn(visit, name) for name in names]
    [thread.wait() for thread in threads]
print(json.dumps(told))
"""


@pytest.mark.parametrize("when", ["early", "late"])
@pytest.mark.parametrize("library", ["gevent", pytest.param("eventlet", marks=pytest.mark.long)])
def test_greenlets_are_served_their_own_sessions(server_url: str, library: str, when: str) -> None:
    """Whether the standard library is patched before the application is made, or after the store was used."""
    need(library)
    assert run(_GREENLETS, library, when, server_url, f"{uuid4()}:") == {"right": 100}


def need(library: str) -> None:
    """Not by an import: eventlet warns of every fork of this process from then on."""
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")


_FIRST = """
import sys, json
from flask_sessionstore import SessionKey, StoreUnavailable
from flask_sessionstore.stores.sqlalchemy import SQLAlchemyStore

store = SQLAlchemyStore.from_url(sys.argv[1])
failed = []

import sqlalchemy as sa
@sa.event.listens_for(store.engine, "connect", insert=True)
def refuse(*_args):
    if not failed:
        failed.append(1)
        raise store.engine.dialect.loaded_dbapi.OperationalError("not yet")

try:
    store.load(SessionKey.generate())  # SQLAlchemy has a lock for the first connection from now on
except StoreUnavailable:
    from gevent import monkey
    monkey.patch_all()
import gevent
jobs = [gevent.spawn(store.load, SessionKey.generate()) for _ in range(20)]
gevent.joinall(jobs)
print(json.dumps([job.successful() for job in jobs]))
"""


def test_greenlets_do_not_wait_for_a_lock_from_before(server_url: str) -> None:
    """What was tried in vain before the library was patched, many try at once afterwards."""
    need("gevent")
    assert run(_FIRST, server_url) == [True] * 20


_BURST = """
from gevent import monkey; monkey.patch_all()
import json, sys
from datetime import timedelta
import gevent, sqlalchemy as sa
from flask_sessionstore import Record
from flask_sessionstore.stores import pool
from flask_sessionstore.stores.sqlalchemy import store as module
from flask_sessionstore.stores.sqlalchemy import SQLAlchemyStore

url, prefix = sys.argv[1:]
module.POOL_TIMEOUT = 60  # this machine may have much else to do
store = SQLAlchemyStore.from_url(f"{url}?application_name={prefix}", prefix=prefix, max_connections=20)
keys = [store.save(Record(state={"who": str(number).encode()}), timedelta(days=1)) for number in range(300)]
right = []

def visit(number):
    right.append(store.load(keys[number]).state["who"] == str(number).encode())

gevent.joinall([gevent.spawn(visit, number) for number in range(300)])
counting = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"), poolclass=sa.NullPool)

def connections():
    with counting.connect() as connection:
        text = "SELECT count(*) FROM pg_stat_activity WHERE application_name = :name"
        return connection.execute(sa.text(text), {"name": prefix}).scalar()

most = connections()

class Later:
    sleep = staticmethod(pool.time.sleep)
    monotonic = staticmethod(lambda now=pool.time.monotonic: now() + 61)

pool.time = Later
store.load(keys[0])
for _ in range(500):
    if connections() <= 8:
        break
    gevent.sleep(0.01)  # the server ends them as it comes to it
print(json.dumps([right.count(True), most, connections()]))
"""


def test_a_burst_of_greenlets_is_served_and_leaves_few_connections(shared_database: StartDatabase) -> None:
    need("gevent")
    store = open_store(shared_database("postgresql").url, "session:")
    store.create_schema()
    served, most, left = run(_BURST, shared_database("postgresql").url, uuid4().hex)
    assert served == 300
    assert 8 < most <= 20
    assert left <= 8
    store.engine.dispose()
