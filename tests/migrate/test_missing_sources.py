"""A place of old sessions that does not exist: the commands name it, instead of finding no sessions there."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import typing as t
from pathlib import Path

import pytest
import servers
import sqlalchemy as sa
from cachelib.file import FileSystemCache
from cli_support import error, run, shop
from dynamodb_servers import DynamoDBServer
from flask import Flask
from http_support import started
from sql_servers import DatabaseServer

from flask_sessionstore.migrate import Importer, from_flask, from_flask_session, from_store
from flask_sessionstore.stores import from_url
from flask_sessionstore.stores.filesystem import FileSystemStore
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.stores.sqlalchemy import SQLAlchemyStore


def shop_that_imports(importer: Importer, store: object = None) -> Flask:
    app = shop(store or MemoryStore())
    app.session_interface.importers.append(importer)  # type: ignore[attr-defined]
    return app


def findings_about_imports(app: Flask) -> list[dict[str, str]]:
    details = json.loads(run(app, "check", "--json", apart=True).stdout)["details"]
    return [one for one in details if one["finding"].startswith(("import_session", "Old sessions"))]


@pytest.fixture
def empty_database(tmp_path: Path) -> str:
    sqlite3.connect(tmp_path / "empty.db").close()
    return f"sqlite:///{tmp_path}/empty.db"


@pytest.fixture(params=["folder", "file", "table"])
def missing(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """A URL, and what does not exist there."""
    if request.param == "folder":
        return f"file://{tmp_path}/old", f"the folder {tmp_path}/old does not exist"
    if request.param == "file":
        return f"sqlite:///{tmp_path}/old.db", f"the file {tmp_path}/old.db does not exist"
    url = request.getfixturevalue("empty_database")
    return url, f"the file {tmp_path}/empty.db has no table flask_sessions"


# -- copy ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_a_copy_from_what_does_not_exist_names_it(missing: tuple[str, str], options: list[str]) -> None:
    url, what = missing
    assert error(shop(MemoryStore()), "copy", url, *options) == (
        f"Error: FROM: {what}: name the store in which the sessions are"
    )


def test_a_setting_with_a_place_that_does_not_exist_is_named(missing: tuple[str, str]) -> None:
    url, what = missing
    assert error(shop(MemoryStore(), OLD_STORE=url), "copy", "OLD_STORE").startswith(f"Error: OLD_STORE: {what}: ")


def test_nothing_is_made_where_nothing_was(empty_database: str, tmp_path: Path) -> None:
    for url in (empty_database, f"sqlite:///{tmp_path}/old.db", f"file://{tmp_path}/old"):
        run(shop(MemoryStore()), "copy", url)
    # SQLite's own files beside a database stay until the last connection is closed.
    assert {path.name.partition("-")[0] for path in tmp_path.iterdir()} == {"empty.db"}
    with contextlib.closing(sqlite3.connect(tmp_path / "empty.db")) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []


def test_the_store_behind_a_cache_is_looked_at(missing: tuple[str, str]) -> None:
    url, what = missing
    assert what in error(shop(MemoryStore(), OLD_STORE=("memory:", url)), "copy", "OLD_STORE")


def test_where_sessions_are_copied_to_need_not_exist(tmp_path: Path) -> None:
    here = shop(f"file://{tmp_path}/here")
    started(here, cart=["cup"])
    assert run(here, "copy", f"file://{tmp_path}/here", f"file://{tmp_path}/there").output.split() == ["copied", "1"]


def test_a_folder_or_a_redis_without_sessions_is_no_error(tmp_path: Path, valkey: servers.RedisServer) -> None:
    (tmp_path / "old").mkdir(mode=0o700)
    for url in (f"file://{tmp_path}/old", valkey.url):
        app = shop(MemoryStore(), SESSION_KEY_PREFIX="nobody uses this prefix:")
        assert run(app, "copy", url).output == "No sessions.\n"


@pytest.mark.server
def test_a_table_on_a_server_is_named_with_the_server_and_without_its_password(
    shared_database: t.Callable[[str], DatabaseServer],
) -> None:
    url = shared_database("postgresql").url
    store = SQLAlchemyStore.from_url(url, table="never_made")
    line = error(shop(MemoryStore(), OLD_STORE=store), "copy", "OLD_STORE")
    assert line.startswith("Error: OLD_STORE: the database postgresql")
    assert "has no table never_made: name the store" in line
    password = sa.make_url(url).password
    assert password is None or f":{password}@" not in line


@pytest.mark.server
def test_a_password_among_the_options_of_a_url_is_not_shown_either(
    shared_database: t.Callable[[str], DatabaseServer],
) -> None:
    url = sa.make_url(shared_database("postgresql").url)
    password = url.password or "tops3cret"
    url = url.set(password=None).update_query_dict({"password": password})
    store = SQLAlchemyStore.from_url(url.render_as_string(hide_password=False), table="never_made")
    line = error(shop(MemoryStore(), OLD_STORE=store), "copy", "OLD_STORE")
    assert "has no table never_made: name the store" in line
    assert f"={password}" not in line


def test_a_table_that_is_missing_in_dynamodb_is_named_by_a_copy(
    shared_dynamodb: t.Callable[[str], DynamoDBServer],
) -> None:
    store = from_url("dynamodb://eu-central-1/never-made", endpoint_url=shared_dynamodb("moto").endpoint_url)
    line = error(shop(MemoryStore(), OLD_STORE=store), "copy", "OLD_STORE")
    assert line.startswith("Error: OLD_STORE: DynamoDB has no table never-made in this region: ")


# -- what was typed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "start"),
    [
        ("OLD_STORE", "FROM: this application has no setting OLD_STORE: write a URL, or the name of a setting"),
        ("sessions", "FROM is not a URL: "),
        ("redis", 'FROM is only the word "redis": '),
        ("/srv/sessions", 'FROM is a path, not a URL: write "file:///srv/sessions"'),
        ("file:~/sessions", "FROM: nothing replaces the ~ in a URL"),
        ("NUMBER", "NUMBER takes a URL, "),
        ("WRONG", "WRONG is not a URL: "),
        ("cookie:", "FROM: CookieStore keeps nothing that could be copied"),
        ("COOKIE", "COOKIE: CookieStore keeps nothing that could be copied"),
    ],
)
def test_a_copy_names_the_argument_or_its_setting(typed: str, start: str) -> None:
    app = shop(MemoryStore(), NUMBER=7, WRONG="sessions", COOKIE="cookie:")
    assert error(app, "copy", typed).startswith(f"Error: {start}")


def test_a_copy_names_the_argument_for_its_target(tmp_path: Path) -> None:
    here = f"file://{tmp_path}/here"
    started(shop(here), cart=["cup"])
    assert error(shop(here), "copy", here, "redis").startswith('Error: TO is only the word "redis": ')
    assert error(shop(here), "copy", here, "NEW_STORE").startswith("Error: TO: this application has no setting NEW_")


# -- import, and check ---------------------------------------------------------------------------------------------


def test_an_import_from_another_store_that_does_not_exist_names_it_and_check_too(missing: tuple[str, str]) -> None:
    url, what = missing
    app = shop_that_imports(from_store(from_url(url)))
    said = f"import_session: {what}: name the place of the old sessions, or remove the importer"
    assert error(app, "import") == f"Error: {said}"
    assert findings_about_imports(app) == [{"severity": "warning", "finding": f"{said}."}]


def test_files_of_flask_session_that_do_not_exist_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = FileSystemCache(str(tmp_path / "old"))
    (tmp_path / "old" / cache._fs_count_file).unlink(missing_ok=True)
    for path in (tmp_path / "old").iterdir():
        path.unlink()
    (tmp_path / "old").rmdir()
    monkeypatch.chdir(tmp_path)
    for source in (tmp_path / "old", cache, "old", f"file://{tmp_path}/old", "file:old"):
        app = shop_that_imports(from_flask_session(source))
        assert error(app, "import").startswith(f"Error: import_session: the folder {tmp_path}/old does not exist: ")
        assert len(findings_about_imports(app)) == 1


def test_a_database_of_flask_session_that_does_not_exist_is_named(tmp_path: Path, empty_database: str) -> None:
    for url, what in (
        (f"sqlite:///{tmp_path}/old.db", f"the file {tmp_path}/old.db does not exist"),
        (empty_database, f"the file {tmp_path}/empty.db has no table sessions"),
    ):
        app = shop_that_imports(from_flask_session(url))
        assert error(app, "import").startswith(f"Error: import_session: {what}: name the place of the old sessions")
        assert len(findings_about_imports(app)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["empty.db"]


def test_places_that_cannot_be_looked_at_are_no_tracebacks(tmp_path: Path) -> None:
    """The user who types a command may lack the application's rights. (A name that is too long fails for root, too.)"""
    place = f"{tmp_path}/{'x' * 300}"
    for importer in (
        from_flask_session(place),
        from_flask_session(f"sqlite:///{place}"),
        from_store(from_url(f"sqlite:///{place}")),
        from_store(from_url(f"file://{place}")),
    ):
        app = shop_that_imports(importer)
        assert error(app, "import").startswith("Error: ")
        (finding,) = findings_about_imports(app)
        assert finding["finding"].startswith("Old sessions cannot be imported: ")


def test_a_dynamodb_table_of_flask_session_that_does_not_exist_is_named(
    shared_dynamodb: t.Callable[[str], DynamoDBServer],
) -> None:
    client = shared_dynamodb("moto").store()._clients.get()
    app = shop_that_imports(from_flask_session(client, table="never-made"))
    start = "import_session: DynamoDB has no table never-made of Flask-Session's in this region: "
    assert error(app, "import").startswith(f"Error: {start}")
    assert len(findings_about_imports(app)) == 1


def test_nothing_is_imported_if_one_of_the_places_does_not_exist(tmp_path: Path) -> None:
    there = MemoryStore()
    started(shop(there), cart=["cup"])
    app = shop_that_imports(from_store(there), store := MemoryStore())
    app.session_interface.importers.append(from_flask_session(tmp_path / "old"))  # type: ignore[attr-defined]
    assert "does not exist" in error(app, "import")
    assert list(store.scan()) == []


def test_check_has_nothing_to_say_about_places_that_exist(tmp_path: Path, valkey: servers.RedisServer) -> None:
    (tmp_path / "old").mkdir(mode=0o700)
    for importer in (
        from_flask(),
        from_flask_session(tmp_path / "old"),
        from_flask_session(valkey.url),
        from_store(FileSystemStore(tmp_path / "old")),
        from_store(MemoryStore()),
    ):
        assert findings_about_imports(shop_that_imports(importer)) == []


def test_check_says_that_old_sessions_cannot_be_reached() -> None:
    importer = from_flask_session("postgresql://nobody:wrong@127.0.0.1:1/none")
    (finding,) = findings_about_imports(shop_that_imports(importer))
    assert finding["severity"] == "warning"
    assert finding["finding"].startswith("Old sessions cannot be imported: the database of the old sessions cannot be")


def test_an_importer_of_an_applications_own_need_not_tell_where_it_reads() -> None:
    class Own:
        cookie, removes = None, False

    app = shop_that_imports(t.cast("Importer", Own()))
    assert findings_about_imports(app) == []
