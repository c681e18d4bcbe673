"""Every session that a real Flask-Session has written, on every engine, is read: what was recorded, put back."""

from __future__ import annotations

import threading
import time
import typing as t
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import engines
import pytest
import servers
from dynamodb_servers import DynamoDBServer
from engines import NOW, look, make_app
from flask import Response, jsonify
from markupsafe import Markup
from memcached_server import MemcachedServer, NXServer
from sql_servers import DatabaseServer
from writers import Case, all_recorded

from flask_sessionstore import SessionManager, codec, session
from flask_sessionstore.errors import UnsupportedByStore
from flask_sessionstore.migrate import Listing, Old
from flask_sessionstore.stores.memory import MemoryStore

MONTH = 31 * 24 * 3600
LOGIN = {"_user_id": "7", "cart": [{"sku": "mug", "n": 2}, {"sku": "pen", "n": 1}]}
#: What a pickle gives back, and what MessagePack does, as Flask-Session itself would have read it.
PICKLED = {
    "datetime": datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=UTC),
    "tuple": (1, 2, ("a", "b")),
    "uuid": uuid.UUID(int=5),
    "bytes": b"\x00\xff",
    "set": {1},
    "decimal": Decimal("1.50"),
    "timedelta": timedelta(days=1, seconds=2),
    "date": date(2026, 1, 2),
}
OLDER = {
    "naive": datetime(2026, 1, 2, 3, 4, 5),  # noqa: DTZ001
    "zoned": datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=2))),
    "markup": Markup("<b>bold</b>"),
    "int keys": {1: "one", None: "none"},
}
PLAIN = {
    "datetime": PICKLED["datetime"],
    "tuple": [1, 2, ["a", "b"]],
    "uuid": str(uuid.UUID(int=5)),
    "bytes": b"\x00\xff",
    "set": [1],
    "decimal": "1.50",
    "timedelta": "P1DT2S",
    "date": "2026-01-02",
}

Put = t.Callable[[Case], Listing]


@pytest.fixture(scope="session")
def nx() -> t.Iterator[NXServer]:
    """What speaks MongoDB's protocol."""
    with NXServer() as server:
        yield server


@pytest.fixture
def put_back(request: pytest.FixtureRequest) -> Put:
    """Puts a case back where it came from, and returns the importer of what is there."""

    def put(case: Case) -> Listing:
        if case.engine == "redis":
            valkey: servers.RedisServer = request.getfixturevalue("valkey")
            return engines.in_redis(valkey.url, case)
        if case.engine == "memcached":
            memcached: MemcachedServer = request.getfixturevalue("shared_memcached")
            return engines.in_memcached(memcached.port, case)
        if case.engine == "mongodb":
            return engines.in_mongodb(request.getfixturevalue("nx").url, case)
        if case.engine == "dynamodb":
            dynamodb: t.Callable[[str], DynamoDBServer] = request.getfixturevalue("shared_dynamodb")
            return engines.in_dynamodb(dynamodb("moto"), case)
        if case.engine in ("files", "cachelib"):
            return engines.in_files(request.getfixturevalue("tmp_path") / "old", case)
        if case.engine == "sqlite":
            return engines.in_sql(f"sqlite:///{request.getfixturevalue('tmp_path')}/old.db", case)
        database: t.Callable[[str], DatabaseServer] = request.getfixturevalue("shared_database")
        return engines.in_sql(database(case.engine).url, case)

    return put


def cases(*names: str) -> pytest.MarkDecorator:
    """A test for each that was recorded of these engines."""
    return pytest.mark.parametrize("case", [as_parameter(case) for case in all_recorded(*names)])


def as_parameter(case: Case) -> t.Any:
    marks = {"redis": [pytest.mark.redis], "files": [], "cachelib": [], "sqlite": []}
    return pytest.param(case, id=case.name, marks=marks.get(case.engine, [pytest.mark.server]))


FILES, DATABASES = ("files", "cachelib"), ("sqlite", "postgresql", "mongodb")
ALL = ("redis", "memcached", "dynamodb", *FILES, *DATABASES)


def contents(old: Old | None) -> dict[str, t.Any]:
    assert old is not None
    return {key: codec.decode(data) for key, data in old.record.state.items()}


@cases(*ALL)
def test_what_flask_session_wrote_is_read(case: Case, put_back: Put, caplog: pytest.LogCaptureFixture) -> None:
    old = look(put_back(case), case.cookie)
    found = contents(old)
    assert old is not None
    pickled = case.version < "0.7" or case.engine in FILES
    flash = ("message", "Grüße") if pickled else ["message", "Grüße"]
    expected: dict[str, t.Any] = {**LOGIN, "_flashes": [flash]}
    if case.settings["path"] == "/types":
        expected |= PICKLED if pickled else PLAIN
        if case.version < "0.7":
            expected |= OLDER
    assert found == expected
    assert {key: type(value) for key, value in found.items()} == {key: type(expected[key]) for key in found}
    assert old.record.permanent is case.settings.get("SESSION_PERMANENT", True)
    assert old.kept_as == ("pickle" if pickled else case.settings.get("SESSION_SERIALIZATION_FORMAT", "msgpack"))
    left_out = [record.getMessage() for record in caplog.records]
    assert left_out == (
        ["these values of an imported session cannot be kept, and are left out: complex"]
        if case.settings["path"] == "/types" and case.version < "0.7"
        else []
    )


@cases(*ALL)
def test_it_goes_on_in_the_first_requests_which_come_at_once(case: Case, put_back: Put) -> None:
    """Its user signed in, and the cart there: one session, whichever request is first."""
    store = MemoryStore()
    store.clock = lambda: NOW
    app = make_app(SESSION_STORE=store)
    SessionManager(app, import_session=put_back(case))
    together = threading.Barrier(3)

    @app.get("/")
    def index() -> Response:
        seen = {key: session.get(key) for key in LOGIN}
        together.wait(60)
        return jsonify(seen, session.handle)

    def send(_: int) -> t.Any:
        browser = app.test_client()
        browser.set_cookie("session", case.cookie)
        response = browser.get("/")
        assert "session=" in response.headers["Set-Cookie"]
        return response.json

    with ThreadPoolExecutor(3) as threads:
        answers = list(threads.map(send, range(3)))
    assert [seen for seen, _ in answers] == [LOGIN] * 3
    assert len({handle for _, handle in answers}) == 1


@cases(*FILES, *DATABASES)
def test_it_ends_when_flask_session_would_have_let_it_end(case: Case, put_back: Put) -> None:
    importer = put_back(case)
    old = look(importer, case.cookie)
    assert old is not None
    assert old.ends_at is not None
    assert abs(old.ends_at - NOW - MONTH) <= 2
    assert look(importer, case.cookie, old.ends_at - 1) is not None
    assert look(importer, case.cookie, old.ends_at) is None


@cases("dynamodb")
def test_dynamodb_has_an_end_that_is_as_many_hours_off_as_the_server_s_time_zone(
    case: Case, put_back: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recorded ones were written in Tokyo, nine hours before UTC."""
    importer = put_back(case)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        old = look(importer, case.cookie)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert old is not None
    assert old.ends_at is not None
    assert abs(old.ends_at - NOW - MONTH) <= 2


@cases("redis")
def test_redis_tells_how_long_it_lives(case: Case, put_back: Put) -> None:
    old = look(put_back(case), case.cookie)
    assert old is not None
    assert old.ends_at is not None
    assert MONTH - 60 < old.ends_at - NOW <= MONTH


@cases("memcached")
def test_memcached_does_not_tell_so_it_lives_as_if_it_had_just_been_written(case: Case, put_back: Put) -> None:
    app = make_app(PERMANENT_SESSION_LIFETIME=3600)
    old = look(put_back(case), case.cookie, app=app)
    assert old is not None
    assert old.ends_at == NOW + 3600


@cases(*ALL)
def test_what_was_removed_is_gone_and_removing_it_again_is_nothing(case: Case, put_back: Put) -> None:
    importer, app = put_back(case), make_app()
    credential = importer.recognise(app, case.cookie)
    assert credential is not None
    importer.remove(credential)
    assert importer.find(app, credential, NOW) is None
    importer.remove(credential)


@cases("redis", "dynamodb", *DATABASES)
def test_all_sessions_can_be_gone_through_where_the_engine_lists_them(case: Case, put_back: Put) -> None:
    importer, app = put_back(case), make_app()
    ((credential, find),) = importer.listed(app, NOW)
    assert credential == importer.recognise(app, case.cookie)
    assert contents(find()) == contents(importer.find(app, credential, NOW))


@cases("files", "memcached")
def test_who_cannot_list_says_so(case: Case, put_back: Put) -> None:
    with pytest.raises(UnsupportedByStore):
        next(iter(put_back(case).listed(make_app(), NOW)))


@cases("sqlite")
def test_many_rows_are_gone_through_page_by_page(case: Case, put_back: Put) -> None:
    row = case.kept[0]
    sids = [str(uuid.UUID(int=n, version=4)) for n in range(250)]
    importer = put_back(case._replace(kept=[row._replace(name=f"session:{sid}") for sid in sids]))
    assert sorted(credential.text for credential, _ in importer.listed(make_app(), NOW)) == sorted(sids)
