"""Write sessions with the Flask-Session of this environment, and print what it kept, as JSON.

Run by ``writers.py``, in an environment that has one version of Flask-Session and not this package::

    python write_flask_session.py REDIS_URL MEMCACHED_PORT POSTGRESQL_URL DYNAMODB_URL

It prints a list of cases: the engine, the settings, the cookie's value, and for each name under which something was
kept the bytes (in base64) and in how many seconds they end.
"""

# The libraries of its time have no types.
# mypy: ignore-errors
from __future__ import annotations

import base64
import datetime
import decimal
import json
import sys
import tempfile
import uuid
import warnings
from importlib.metadata import version
from pathlib import Path

import flask
import pymemcache
import pymongo
import redis
import sqlalchemy
from flask_session import Session
from flask_sqlalchemy import SQLAlchemy
from markupsafe import Markup

warnings.simplefilter("ignore")
VERSION = tuple(map(int, version("Flask-Session").split(".")))
PICKLES = VERSION < (0, 7)
TYPES = {
    "datetime": datetime.datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=datetime.timezone.utc),
    "tuple": (1, 2, ("a", "b")),
    "uuid": uuid.UUID(int=5),
    "bytes": b"\x00\xff",
    "set": {1},
    "decimal": decimal.Decimal("1.50"),
    "timedelta": datetime.timedelta(days=1, seconds=2),
    "date": datetime.date(2026, 1, 2),
}
PICKLED = {
    "naive": datetime.datetime(2026, 1, 2, 3, 4, 5),
    "zoned": datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone(datetime.timedelta(hours=2))),
    "markup": Markup("<b>bold</b>"),
    "complex": 1 + 2j,
    "int keys": {1: "one", None: "none"},
}


def write_login():
    flask.session["_user_id"] = "7"
    flask.session["cart"] = [{"sku": "mug", "n": 2}, {"sku": "pen", "n": 1}]
    flask.session["_flashes"] = [("message", "Grüße")]
    return "ok"


def write_types():
    write_login()
    flask.session.update(TYPES)
    if PICKLES:
        flask.session.update(PICKLED)
    return "ok"


def make_app(**settings):
    app = flask.Flask(__name__)
    app.config.update(SECRET_KEY="change me", **settings)
    app.add_url_rule("/login", view_func=write_login)
    app.add_url_rule("/types", view_func=write_types)
    return app


def cookie_of(app, path):
    response = app.test_client().get(path)
    assert response.status_code == 200, response.get_data(as_text=True)
    return response.headers["Set-Cookie"].partition("=")[2].partition(";")[0]


def now():
    return datetime.datetime.now(datetime.timezone.utc).timestamp()


def kept(name, data, ends_at):
    return {
        "name": name,
        "data": base64.b64encode(data).decode(),
        "seconds": None if ends_at is None else round(ends_at - now()),
    }


def case(engine, cookie, records, **settings):
    shown = {name: value for name, value in settings.items() if isinstance(value, (str, int, bool))}
    return {"engine": engine, "settings": shown, "cookie": cookie, "kept": list(records)}


# -- one function for each engine ----------------------------------------------------------------------------------


def in_redis(url):
    client = redis.Redis.from_url(url)
    variants = [{}, {"SESSION_USE_SIGNER": True}, {"SESSION_PERMANENT": False}]
    if VERSION >= (0, 6):
        variants.append({"SESSION_ID_LENGTH": 48})
    if not PICKLES:
        variants.append({"SESSION_SERIALIZATION_FORMAT": "json"})
    for path, number in [("/login", n) for n in range(len(variants))] + [("/types", 0)]:
        prefix = f"written-{uuid.uuid4()}:"
        app = make_app(SESSION_TYPE="redis", SESSION_REDIS=client, SESSION_KEY_PREFIX=prefix, **variants[number])
        Session(app)
        cookie = cookie_of(app, path)
        names = client.keys(prefix + "*")
        records = [
            kept(name.decode().replace(prefix, "session:"), client.get(name), now() + client.pttl(name) / 1000)
            for name in names
        ]
        client.delete(*names)
        yield case("redis", cookie, records, path=path, **variants[number])


def in_files():
    for path in ("/login", "/types"):
        folder = Path(tempfile.mkdtemp())
        app = make_app(SESSION_TYPE="filesystem", SESSION_FILE_DIR=str(folder))
        Session(app)
        yield case("files", cookie_of(app, path), map(kept_in_file, sorted(folder.iterdir())), path=path)
    if VERSION >= (0, 8):
        from cachelib.file import FileSystemCache

        folder = Path(tempfile.mkdtemp())
        app = make_app(SESSION_TYPE="cachelib", SESSION_CACHELIB=FileSystemCache(str(folder)))
        Session(app)
        yield case("cachelib", cookie_of(app, "/login"), map(kept_in_file, sorted(folder.iterdir())), path="/login")


def kept_in_file(path):
    data = path.read_bytes()
    ends_at = int.from_bytes(data[:4], "little")
    return kept(path.name, data, ends_at or None)


def in_sql(engine, url):
    table = "sessions" if engine == "sqlite" else f"written_{uuid.uuid4().hex}"
    app = make_app(SQLALCHEMY_DATABASE_URI=url, SESSION_TYPE="sqlalchemy", SESSION_SQLALCHEMY_TABLE=table)
    database = SQLAlchemy(app)
    app.config["SESSION_SQLALCHEMY"] = database
    with app.app_context():
        Session(app)
        database.create_all()
    for path in ("/login", "/types"):
        cookie = cookie_of(app, path)
        with app.app_context(), database.engine.begin() as connection:
            rows = connection.execute(sqlalchemy.text(f"SELECT session_id, data, expiry FROM {table}")).all()
            connection.execute(sqlalchemy.text(f"DELETE FROM {table}"))
        yield case(engine, cookie, map(kept_in_row, rows), path=path)
    with app.app_context():
        database.drop_all()
        database.engine.dispose()


def kept_in_row(row):
    end = row[2] if isinstance(row[2], datetime.datetime) else datetime.datetime.fromisoformat(row[2])
    assert end.tzinfo is None
    return kept(row[0], bytes(row[1]), end.replace(tzinfo=datetime.timezone.utc).timestamp())


def in_memcached(port):
    client = pymemcache.Client(("127.0.0.1", port))
    written = {}

    class Watched:
        def get(self, name):
            return client.get(name)

        def set(self, name, value, expire=0, *args, **kwargs):
            written[name] = kwargs.get("time", expire)
            return client.set(name, value, written[name])

        def delete(self, name):
            return client.delete(name)

    for path in ("/login", "/types"):
        written.clear()
        prefix = f"written-{uuid.uuid4()}:"
        app = make_app(SESSION_TYPE="memcached", SESSION_MEMCACHED=Watched(), SESSION_KEY_PREFIX=prefix)
        Session(app)
        cookie = cookie_of(app, path)
        names = [name if isinstance(name, str) else name.decode() for name in written]
        yield case(
            "memcached", cookie, [kept(n.replace(prefix, "session:"), client.get(n), None) for n in names], path=path
        )


def in_mongodb():
    """What would be sent to a server."""
    documents = []

    class Collection:
        def create_index(self, *args, **kwargs):
            pass

        def find_one(self, *args):
            pass

        def update(self, which, document, *args, **kwargs):
            documents.append(document)

        def update_one(self, which, change, *args, **kwargs):
            documents.append({**which, **change["$set"]})

    class Database:
        def __getitem__(self, name):
            return Collection()

    class Client(pymongo.MongoClient):
        def __init__(self):
            pass

        def __getitem__(self, name):
            return Database()

        def __del__(self):
            pass

    for path in ("/login", "/types"):
        documents.clear()
        app = make_app(SESSION_TYPE="mongodb", SESSION_MONGODB=Client())
        Session(app)
        cookie = cookie_of(app, path)
        yield case(
            "mongodb",
            cookie,
            [
                kept(
                    one["id"],
                    bytes(one["val"]),
                    one["expiration"].replace(tzinfo=datetime.timezone.utc).timestamp(),
                )
                for one in documents
            ],
            path=path,
        )


def in_dynamodb(url):
    import boto3

    keys = {"aws_access_key_id": "anybody", "aws_secret_access_key": "secret-of-anybody"}
    resource = boto3.resource("dynamodb", endpoint_url=url, region_name="eu-central-1", **keys)
    for path, settings in (
        ("/login", {}),
        ("/login", {"SESSION_SERIALIZATION_FORMAT": "json"}),
        ("/types", {}),
    ):
        name = f"written-{uuid.uuid4()}"
        app = make_app(SESSION_TYPE="dynamodb", SESSION_DYNAMODB=resource, SESSION_DYNAMODB_TABLE=name, **settings)
        Session(app)
        cookie = cookie_of(app, path)
        table = resource.Table(name)
        records = [kept(one["id"], one["val"].value, float(one["expiration"])) for one in table.scan()["Items"]]
        table.delete()
        yield case("dynamodb", cookie, records, path=path, **settings)


def main(redis_url, memcached_port, postgresql_url, dynamodb_url):
    cases = [*in_redis(redis_url), *in_files(), *in_memcached(int(memcached_port)), *in_mongodb()]
    cases += in_sql("sqlite", f"sqlite:///{tempfile.mkdtemp()}/sessions.db")
    cases += in_sql("postgresql", postgresql_url.replace("postgresql://", "postgresql+psycopg://"))
    if VERSION >= (0, 8):
        cases += in_dynamodb(dynamodb_url)
    json.dump(cases, sys.stdout, indent=1)


if __name__ == "__main__":
    main(*sys.argv[1:])
