"""What was recorded, put back into the engines that it came from; and importers that read it there."""

from __future__ import annotations

import typing as t
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import boto3.session
import pymemcache
import redis
import sqlalchemy as sa
from dynamodb_servers import ANYBODY, REGION, DynamoDBServer
from flask import Flask
from pymongo import MongoClient
from writers import PREFIX, SECRET_KEY, Case, Kept

from flask_sessionstore.migrate import Listing, Old, from_flask_session

#: The present of these tests, in seconds since 1970.
NOW = 1_767_225_600.0


def make_app(**settings: t.Any) -> Flask:
    """An application with the secret that the recorded sessions were signed with."""
    app = Flask(__name__)
    app.config.update(SECRET_KEY=SECRET_KEY, **settings)
    return app


def look(importer: Listing, cookie: str, now: float = NOW, app: Flask | None = None) -> Old | None:
    """The old session behind a cookie."""
    app = app or make_app()
    credential = importer.recognise(app, cookie)
    return None if credential is None else importer.find(app, credential, now)


def in_redis(url: str, case: Case) -> Listing:
    """In a server of Redis's protocol, whose clock cannot be moved: an end is counted from now."""
    prefix = f"{uuid.uuid4()}:"
    with redis.Redis.from_url(url) as client:
        for kept in case.kept:
            assert kept.seconds is not None
            client.set(_renamed(kept, prefix), kept.data, ex=kept.seconds)
    return from_flask_session(url, prefix=prefix, **case.options)


def in_memcached(port: int, case: Case) -> Listing:
    """In Memcached."""
    prefix = f"{uuid.uuid4()}:"
    client = pymemcache.Client(("127.0.0.1", port))
    for kept in case.kept:
        client.set(_renamed(kept, prefix), kept.data, noreply=False)
    client.close()
    return from_flask_session(f"memcached://127.0.0.1:{port}", prefix=prefix, **case.options)


def in_files(folder: Path, case: Case) -> Listing:
    """In files, which end when they say: in NOW's time."""
    folder.mkdir(exist_ok=True)
    for kept in case.kept:
        end = 0 if kept.seconds is None else int(NOW) + kept.seconds
        (folder / kept.name).write_bytes(end.to_bytes(4, "little") + kept.data[4:])
    return from_flask_session(folder, **case.options)


def in_sql(url: str, case: Case) -> Listing:
    """In a table that has the columns that Flask-Session gives it."""
    name, prefix = f"old_{uuid.uuid4().hex}", "session:"
    table = sa.Table(
        name,
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("session_id", sa.String(255), unique=True),
        sa.Column("data", sa.LargeBinary),
        sa.Column("expiry", sa.DateTime),
    )
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:").replace("mysql:", "mysql+pymysql:"))
    with engine.begin() as connection:
        table.create(connection)
        for kept in case.kept:
            assert kept.seconds is not None
            end = datetime.fromtimestamp(NOW + kept.seconds, UTC).replace(tzinfo=None)
            connection.execute(table.insert().values(session_id=_renamed(kept, prefix), data=kept.data, expiry=end))
    engine.dispose()
    return from_flask_session(url, prefix=prefix, table=name, **case.options)


def in_mongodb(url: str, case: Case) -> Listing:
    """In what speaks MongoDB's protocol."""
    prefix = f"{uuid.uuid4()}:"
    with MongoClient[dict[str, t.Any]](url) as client:
        for kept in case.kept:
            assert kept.seconds is not None
            end = datetime.fromtimestamp(NOW + kept.seconds, UTC)
            document = {"id": _renamed(kept, prefix), "val": kept.data, "expiration": end}
            client["flask_session"]["sessions"].insert_one(document)
    return from_flask_session(url, prefix=prefix, **case.options)


def in_dynamodb(server: DynamoDBServer, case: Case) -> Listing:
    """In a table that has the key that Flask-Session gives it."""
    prefix, resource = f"{uuid.uuid4()}:", dynamodb(server)
    table = new_table(resource)
    for kept in case.kept:
        assert kept.seconds is not None
        item = {"id": _renamed(kept, prefix), "val": kept.data, "expiration": Decimal(NOW + kept.seconds)}
        table.put_item(Item=item)
    return from_flask_session(resource, table=table.name, prefix=prefix, **case.options)


def dynamodb(server: DynamoDBServer) -> t.Any:
    """What SESSION_DYNAMODB is."""
    session = boto3.session.Session(ANYBODY["AWS_ACCESS_KEY_ID"], ANYBODY["AWS_SECRET_ACCESS_KEY"], region_name=REGION)
    return session.resource("dynamodb", endpoint_url=server.endpoint_url)


def new_table(resource: t.Any) -> t.Any:
    """A table as Flask-Session makes it."""
    return resource.create_table(
        TableName=f"old_{uuid.uuid4().hex}",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )


def _renamed(kept: Kept, prefix: str) -> str:
    assert kept.name.startswith(PREFIX)
    return prefix + kept.name.removeprefix(PREFIX)
