"""``flask sessions check``: what it finds, and what it is content with."""

from __future__ import annotations

import json
import re
import typing as t
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
import redis
import sqlalchemy as sa
from cli_support import output, run, shop
from flask import Flask, request
from http_support import started, warnings_in
from servers import StartServer
from sql_servers import DatabaseServer

from flask_sessionstore import ConfigurationError, SessionManager, StoreSessionInterface, StoreUnavailable
from flask_sessionstore.layout import is_tombstone
from flask_sessionstore.stores import Scans, ServerSideStore, SessionStore, Sweeps, exposure, from_url
from flask_sessionstore.stores.caching import CachingStore
from flask_sessionstore.stores.cookie import CookieStore
from flask_sessionstore.stores.filesystem import FileSystemStore
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.stores.redis import RedisStore
from flask_sessionstore.stores.sqlalchemy import SQLAlchemyStore
from flask_sessionstore.testing import Clock

DEAD = "redis://127.0.0.1:1"  # where nobody listens
SECRET = "x3J-9qLw0vT5sKzR8bN1mYc7uHfPaD2eGiO4nXkUtQE"
#: What check has nothing to say about.
SAFE = {
    "SECRET_KEY": SECRET,
    "SESSION_COOKIE_NAME": "__Host-session",
    "SESSION_COOKIE_SECURE": True,
    "SESSION_COOKIE_SAMESITE": "Lax",
}


@pytest.fixture
def folder(tmp_path: Path, lasting_disk: None) -> FileSystemStore:
    """A store that is nothing to worry about."""
    return FileSystemStore(tmp_path / "sessions")


def findings(store: object, **config: object) -> list[str]:
    result = run(shop(store, **{**SAFE, **config}), "check", "--json")
    found: list[str] = json.loads(result.output)["findings"]
    assert result.exit_code == (1 if found else 0)
    return found


READ_AT_START = {"SESSION_SWEEP_INTERVAL", "PERMANENT_SESSION_LIFETIME"}


def graded(store: object, **config: object) -> list[tuple[str, str]]:
    """The findings, each after its severity."""
    obeyed = {name: value for name, value in config.items() if name in READ_AT_START}
    app = shop(store, **SAFE, **obeyed)
    app.config.update(config)  # some are refused at the start, unless they are set later
    details = json.loads(run(app, "check", "--json").output)["details"]
    return [(detail["severity"], detail["finding"]) for detail in details]


def test_check_is_content_with_safe_settings(folder: FileSystemStore) -> None:
    result = run(shop(folder, **SAFE), "check")
    assert result.output.endswith("\nNo findings.\n")
    assert result.exit_code == 0
    assert not folder.path.exists(), "it only looks"


def test_check_names_settings_that_nobody_is_known_to_read(folder: FileSystemStore) -> None:
    assert findings(folder, SESSION_PROTECTION="strong", SESSION_TELEMETRY=1) == [
        "SESSION_TELEMETRY is a setting that nobody is known to read: remove it if nothing else does."
    ]


def test_check_finds_another_application_under_the_same_prefix(store: SessionStore) -> None:
    scans = store.ability(Scans)
    if scans is None:
        pytest.skip("this store does not show its sessions")
    started(shop(store), user="ann")
    another = {"SECRET_KEY": SECRET[::-1], "SESSION_OWNER_KEY": "user"}

    def strangers(**config: object) -> list[str]:
        return [finding for finding in findings(store, **config) if "another SECRET_KEY" in finding]

    assert strangers() == strangers() == []
    (finding,) = strangers(**another)
    assert f'under the prefix "{store.prefix}"' in finding  # type: ignore[attr-defined]
    assert strangers(**another) == []
    assert len(strangers()) == 1
    assert strangers(SECRET_KEY="k9" * 20, SECRET_KEY_FALLBACKS=[SECRET]) == [], "its own, by another key"
    assert json.loads(output(shop(store), "list", "--json"))[0]["owner"] == "ann"
    assert len(list(scans.scan())) == 2
    assert len(json.loads(output(shop(store), "list", "--json"))) == 1, "the note is nobody's session"


def test_a_note_that_is_damaged_is_replaced(folder: FileSystemStore) -> None:
    started(shop(folder), user="ann")
    assert findings(folder) == []
    (note,) = (entry.handle for entry in folder.scan() if entry.data and is_tombstone(entry.data))
    folder.drop(note)
    folder.add(note, b"\1" + b"!" * 105, timedelta(days=1))
    assert findings(folder) == findings(folder) == []
    assert len(findings(folder, SECRET_KEY=SECRET[::-1])) == 1


def test_check_leaves_no_note_where_nobody_keeps_sessions(folder: FileSystemStore) -> None:
    """As root, before the application has made its folder."""
    assert findings(folder) == findings(folder, SECRET_KEY=SECRET[::-1]) == []
    assert not folder.path.exists()


RISKS: list[tuple[dict[str, object], str]] = [
    ({"SECRET_KEY": None}, "SECRET_KEY is not set"),
    ({"SECRET_KEY": SECRET[:31]}, "SECRET_KEY has 31 bytes, fewer than 32"),
    ({"SECRET_KEY": b"dev"}, "SECRET_KEY is easy to guess"),
    ({"SECRET_KEY": "Change-me before you go to production!"}, "SECRET_KEY is easy to guess"),
    ({"SECRET_KEY": "0" * 64}, "SECRET_KEY is easy to guess"),
    ({"SECRET_KEY_FALLBACKS": [SECRET[::-1], SECRET[:8]]}, "SECRET_KEY_FALLBACKS has a secret that has 8 bytes"),
    ({"SECRET_KEY_FALLBACKS": "text"}, "SECRET_KEY_FALLBACKS takes a list of former secrets"),
    ({"SESSION_COOKIE_HTTPONLY": False}, "SESSION_COOKIE_HTTPONLY is off"),
    ({"SESSION_COOKIE_SAMESITE": None}, "SESSION_COOKIE_SAMESITE is not set"),
    ({"SESSION_COOKIE_SAMESITE": "None"}, "SESSION_COOKIE_SAMESITE is None"),
    ({"SESSION_COOKIE_SAMESITE": "Sometimes"}, "Sessions do not work: SESSION_COOKIE_SAMESITE is 'Sometimes'"),
    ({"SESSION_COOKIE_NAME": "__Secure-s", "SESSION_COOKIE_SECURE": False}, "Sessions do not work: browsers refuse"),
    ({"SESSION_COOKIE_NAME": "s", "SESSION_COOKIE_SECURE": False}, "SESSION_COOKIE_SECURE is off"),
    (
        {"SESSION_COOKIE_PATH": "/shop"},
        "Sessions do not work: browsers refuse a cookie named '__Host-session' with a path",
    ),
    ({"SESSION_COOKIE_NAME": "s"}, "SESSION_COOKIE_NAME has no prefix, so other hosts of your domain"),
]


@pytest.mark.parametrize(("config", "start"), RISKS, ids=[f"{next(iter(c))}-{n}" for n, (c, _) in enumerate(RISKS)])
def test_check_finds_a_risky_setting(folder: FileSystemStore, config: dict[str, object], start: str) -> None:
    try:
        app = shop(folder, **{**SAFE, **config})
    except ConfigurationError:  # refused at the start, unless it is set later
        app = shop(folder, **SAFE)
        app.config.update(config)
    result = run(app, "check")
    assert re.search(rf"^(error|warning): {re.escape(start)}", result.output, re.MULTILINE)
    assert result.exit_code == 1


def test_check_tells_which_prefix_a_cookie_can_have(folder: FileSystemStore) -> None:
    (host,) = findings(folder, SESSION_COOKIE_NAME="s")
    assert host.endswith('set it to "__Host-s".')
    (secure,) = findings(folder, SESSION_COOKIE_NAME="s", SESSION_COOKIE_DOMAIN="shop.example")
    assert secure.endswith('set it to "__Secure-s".')
    assert not findings(folder, SESSION_COOKIE_NAME="__Secure-s", SESSION_COOKIE_DOMAIN="shop.example")
    assert not findings(folder, SESSION_COOKIE_SAMESITE="None", SESSION_COOKIE_PARTITIONED=True)


def test_check_tells_no_secret(folder: FileSystemStore) -> None:
    app = shop((DEAD.replace("//", "//:hush-hush@"), folder), SECRET_KEY="short-and-hush")
    result = run(app, "check")
    assert "hush" not in result.output
    assert "SESSION_STORE                    CachingStore(RedisStore, FileSystemStore)\n" in result.output


def test_check_asks_the_applications_own_way_to_set_the_cookie(folder: FileSystemStore) -> None:
    class Interface(StoreSessionInterface):
        def get_cookie_name(self, app: Flask) -> str:
            return f"__Host-{request.host}"

    class Manager(SessionManager):
        interface_class = Interface

    app = Flask("hosts")
    app.config.update(SAFE)
    Manager(app, store=folder)
    result = run(app, "check", "--json")
    assert json.loads(result.output)["settings"]["SESSION_COOKIE_NAME"] == "__Host-localhost"
    assert result.exit_code == 0


@pytest.fixture
def no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in the environment says how many processes there are."""
    for name in ("WEB_CONCURRENCY", "GUNICORN_CMD_ARGS", "UWSGI_PROCESSES", "UWSGI_WORKERS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("no_workers")
def test_check_says_that_memory_is_one_process() -> None:
    (finding,) = findings(MemoryStore())
    assert finding.startswith("MemoryStore keeps sessions in one process")
    assert not findings(CookieStore()), "what it cannot do is no risk"


@pytest.mark.parametrize(
    ("name", "value", "processes"),
    [
        ("WEB_CONCURRENCY", "4", 4),
        ("WEB_CONCURRENCY", "1", None),
        ("GUNICORN_CMD_ARGS", "--bind=0.0.0.0 --workers=3", 3),
        ("GUNICORN_CMD_ARGS", "-w 2", 2),
        ("GUNICORN_CMD_ARGS", "-w2 --threads 8", 2),
        ("GUNICORN_CMD_ARGS", "--threads 8", None),
        ("UWSGI_PROCESSES", "8", 8),
        ("UWSGI_WORKERS", "8", 8),
    ],
)
@pytest.mark.usefixtures("no_workers")
def test_several_workers_with_sessions_in_memory_are_an_error(
    folder: FileSystemStore, monkeypatch: pytest.MonkeyPatch, name: str, value: str, processes: int | None
) -> None:
    monkeypatch.setenv(name, value)
    for store in (MemoryStore(), CachingStore(MemoryStore(), MemoryStore())):
        said = [text for severity, text in graded(store) if severity == "error"]
        assert [text.partition(",")[0] for text in said] == (
            [] if processes is None else [f"{name} asks for {processes} processes"]
        )
    assert graded(folder) == graded((MemoryStore(), folder)) == []


# -- severities ------------------------------------------------------------------------------------------------------


def test_the_worst_findings_come_first(folder: FileSystemStore) -> None:
    found = graded(folder, SESSION_COOKIE_HTTPONLY=False, SECRET_KEY="dev", SESSION_SWEEP_INTERVAL=None)
    assert [severity for severity, _ in found] == ["error", "warning", "note"]
    result = run(shop(folder, **{**SAFE, "SESSION_COOKIE_HTTPONLY": False, "SECRET_KEY": "dev"}), "check", "--json")
    reply = json.loads(result.output)
    assert [detail["finding"] for detail in reply["details"]] == reply["findings"]


@pytest.mark.parametrize(
    ("config", "fails_on"),
    [
        ({"SECRET_KEY": "dev"}, {"note", "warning", "error"}),
        ({"SESSION_COOKIE_HTTPONLY": False}, {"note", "warning"}),
        ({"SESSION_SWEEP_INTERVAL": None}, {"note"}),
        ({}, set()),
    ],
)
def test_who_calls_check_chooses_what_makes_it_fail(
    folder: FileSystemStore, config: dict[str, object], fails_on: set[str]
) -> None:
    app = shop(folder, **{**SAFE, **config})
    codes = {severity: run(app, "check", "--fail-on", severity).exit_code for severity in ("note", "warning", "error")}
    assert {severity for severity, code in codes.items() if code == 1} == fails_on
    assert run(app, "check").exit_code == codes["warning"]


@pytest.mark.parametrize("option", ["-q", "--quiet"])
def test_quiet_shows_only_the_findings(folder: FileSystemStore, option: str) -> None:
    assert run(shop(folder, **SAFE), "check", option).output == ""
    shown = run(shop(folder, **{**SAFE, "SESSION_COOKIE_HTTPONLY": False}), "check", option).output
    assert shown.startswith("warning: SESSION_COOKIE_HTTPONLY is off")
    assert shown.count("\n") == 1


# -- what is left to clean up ----------------------------------------------------------------------------------------


def test_a_store_that_nothing_cleans_up_is_a_risk(folder: FileSystemStore, clock: Clock) -> None:
    folder.clock = clock
    off = {"SESSION_SWEEP_INTERVAL": None}

    def severities(**config: object) -> list[str]:
        return [severity for severity, text in graded(folder, **{**off, **config}) if "SESSION_SWEEP_INTERVAL" in text]

    started(shop(folder, PERMANENT_SESSION_LIFETIME=3600), user="ann")
    assert severities() == ["note"]
    clock.advance(timedelta(hours=24).total_seconds())
    assert severities() == ["note"], "cron may come once a day"
    clock.advance(timedelta(hours=2).total_seconds())
    assert severities() == ["warning"]
    assert severities(SESSION_SWEEP_INTERVAL=60) == []
    assert output(shop(folder), "cleanup") == "1 removed\n"
    assert severities() == ["note"]


def test_engines_that_remove_what_has_expired_need_no_cron(store: SessionStore) -> None:
    found = [text for _, text in graded(store, SESSION_SWEEP_INTERVAL=None) if "SESSION_SWEEP_INTERVAL" in text]
    sweeps = store.ability(Sweeps)
    assert len(found) == (sweeps is not None and not isinstance(sweeps, MemoryStore))


def test_check_is_content_with_memory_as_a_cache(folder: FileSystemStore) -> None:
    assert findings((MemoryStore(), folder)) == []


def test_check_finds_a_store_or_a_cache_that_cannot_be_reached(
    folder: FileSystemStore, caplog: pytest.LogCaptureFixture
) -> None:
    why = "Error 111 connecting to 127.0.0.1:1. Connection refused"
    assert findings(DEAD) == [f"The store cannot be used: Redis cannot be reached: {why}."]
    (finding,) = findings((DEAD, folder))
    assert finding == "The cache cannot be used, so every request asks the store: Redis cannot be reached."
    assert len(warnings_in(caplog)) == 1


def test_check_finds_a_folder_that_is_not_ours_alone(folder: FileSystemStore) -> None:
    folder.path.mkdir(mode=0o777)
    folder.path.chmod(0o777)
    (finding,) = findings(folder)
    assert finding.startswith("The store cannot be used: ")


@pytest.mark.server
def test_check_finds_a_missing_table_which_create_schema_creates(
    shared_database: t.Callable[[str], DatabaseServer], tmp_path: Path
) -> None:
    url, table = shared_database("postgresql").url, f"t{uuid4().hex[:8]}"
    options = {"SESSION_STORE_OPTIONS": {"table": table}}
    (finding,) = findings(url, **options)
    assert f"has no table {table}: " in finding
    for _ in range(2):
        assert output(shop(url, **options), "create-schema") == "The schema exists.\n"
    assert not findings(url, **options)
    pair = ("memory:", f"sqlite:///{tmp_path}/shop.db")
    assert output(shop(pair), "create-schema") == "The schema exists.\n"


def test_check_finds_a_redis_that_evicts(start_redis: StartServer) -> None:
    server = start_redis(maxmemory_policy="allkeys-lru")
    with redis.Redis.from_url(server.url) as client:
        for store in (from_url(server.url), RedisStore(client)):
            (finding,) = findings(store)
            assert finding.startswith("Redis evicts sessions when its memory is full (maxmemory-policy allkeys-lru)")
        client.config_set("maxmemory-policy", "noeviction")
        for store in (from_url(server.url), RedisStore(client)):
            assert not findings(store)
        client.acl_setuser("shop", enabled=True, passwords=["+pass"], keys=["*"], commands=["+@all", "-@dangerous"])
        (finding,) = findings(server.url.replace("//", "//shop:pass@"))
        assert finding.startswith("Redis does not show its maxmemory-policy")
        client.acl_setuser("shop", enabled=True, commands=["+info"])
        assert not findings(server.url.replace("//", "//shop:pass@"))


def test_a_redis_that_evicts_is_good_for_a_cache(start_redis: StartServer, folder: FileSystemStore) -> None:
    assert findings((start_redis(maxmemory_policy="allkeys-lru").url, folder)) == []


@pytest.mark.parametrize(
    ("url", "exposed"),
    [
        ("redis://redis.example.com", True),
        ("redis://192.0.2.7:6380/1", True),
        ("redis+unix:///run/redis.sock", False),
        ("rediss://redis.example.com", False),
        ("redis://localhost", False),
        ("redis://127.0.0.2", False),
        ("redis://[::1]:6379", False),
        ("memcached://localhost,memcached.example.com", True),
        ("memcached://localhost,127.0.0.1", False),
    ],
)
def test_records_that_travel_to_others_in_clear_text_are_a_risk(url: str, exposed: bool) -> None:
    store = t.cast("ServerSideStore", from_url(url))
    (*found,) = store.exposures()
    assert [finding.split(",")[0] for finding in found] == (
        [f"Records travel to {re.search(r'192.0.2.7|[a-z]+.example.com', url)[0]} without encryption"]  # type: ignore[index]
        if exposed
        else []
    )


@pytest.mark.parametrize(
    ("url", "checked"),
    [
        ("rediss://redis.example.com", True),
        ("rediss://redis.example.com?ssl_check_hostname=false", False),
        ("rediss://redis.example.com?ssl_cert_reqs=none", False),
        ("valkeys://redis.example.com?ssl_cert_reqs=optional", False),
        ("rediss://localhost?ssl_check_hostname=false", True),
        ("rediss+cluster://redis.example.com?ssl_cert_reqs=none", None),
    ],
)
def test_tls_that_does_not_check_the_name_of_redis_is_a_risk(url: str, checked: bool | None) -> None:
    """(Which hosts a cluster has, only the cluster can say, and there is none.)"""
    store = t.cast("ServerSideStore", from_url(url))
    if checked is None:
        with pytest.raises(StoreUnavailable):
            store.exposures()
        return
    said = ["Records travel to redis.example.com by TLS without a check of the host's name"]
    assert [finding.partition(",")[0] for finding in store.exposures()] == ([] if checked else said)


def test_a_client_of_redis_that_does_not_check_names_is_a_risk() -> None:
    client = redis.Redis(host="192.0.2.7", ssl=True, ssl_check_hostname=False)
    (finding,) = RedisStore(client).exposures()
    assert "another server can pose as 192.0.2.7" in finding
    assert RedisStore(redis.Redis(host="192.0.2.7", ssl=True, ssl_check_hostname=True)).exposures() == []


@pytest.mark.parametrize("kind", ["file", "sqlite"])
def test_what_is_below_tmp_is_a_risk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    urls = {"file": "file://{}/sessions", "sqlite": "sqlite:///{}/shop.db"}

    def risks(folder: str) -> list[str]:
        return [risk for risk in from_url(urls[kind].format(folder)).risks() if "old files" in risk]

    monkeypatch.setattr(exposure, "MOUNTS", tmp_path / "mounts")
    assert risks("/var/lib") == risks("/tmpfiles") == []
    (finding,) = risks("/tmp")
    assert " is below /tmp, from where systems remove old files" in finding
    (tmp_path / "link").symlink_to("/var/tmp")
    (finding,) = (risk for risk in risks(f"{tmp_path}/link") if "/var/tmp" in risk)


@pytest.mark.usefixtures("lasting_disk")
def test_an_sqlite_file_that_is_not_ours_alone_or_not_in_wal_mode_is_a_risk(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shop.db"
    assert findings(url) == []
    assert not Path(tmp_path, "shop.db").exists(), "it only looks"
    SQLAlchemyStore.from_url(url).create_schema()
    assert findings(url) == []
    (tmp_path / "shop.db").chmod(0o644)
    (finding,) = findings(url)
    assert finding.startswith("SQLite's file has the mode 644, so other users of this machine can read the sessions")
    (tmp_path / "shop.db").chmod(0o600)
    applications = SQLAlchemyStore(sa.create_engine(f"sqlite:///{tmp_path}/other.db"))
    applications.create_schema()
    (*_, finding) = applications.risks()
    assert finding.startswith("SQLite's journal_mode is delete, so requests that read wait")
    applications.engine.dispose()


def test_a_cache_beyond_this_machine_is_a_risk_too() -> None:
    class Remote(MemoryStore):
        def exposures(self) -> list[str]:
            return ["Records travel to the moon."]

    assert "Records travel to the moon." in CachingStore(Remote(), MemoryStore()).risks()


MOUNTS = r"""
/dev/sda1 / ext4 rw,relatime 0 0
server:/home /home nfs4 rw 0 0
//server/share /mnt/my\040share cifs rw 0 0
C:\134 /mnt/c 9p rw 0 0
you@server: /mnt/ssh fuse.sshfs rw 0 0
tmpfs /home/local tmpfs rw 0 0
server:/srv /srv nfs rw 0 0
/dev/sdb1 /srv ext4 rw 0 0
/dev/sdc1 /mnt/disk fuseblk rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/shop", None),
        ("/home", "nfs4"),
        ("/home/shop/sessions", "nfs4"),
        ("/homes/shop", None),
        ("/home/local/sessions", None),
        ("/mnt/my share/sessions", "cifs"),
        ("/mnt/c/sessions", "9p"),
        ("/mnt/ssh", "fuse.sshfs"),
        ("/srv/sessions", None),
        ("/mnt/disk/sessions", None),
    ],
)
def test_a_folder_on_a_network_file_system_is_a_risk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, kind: str | None
) -> None:
    monkeypatch.setattr(exposure, "MOUNTS", tmp_path / "mounts")
    assert FileSystemStore(path).risks() == [], "where there is no such list"
    exposure.MOUNTS.write_text("")
    assert FileSystemStore(path).risks() == [], "where nothing is in it"
    exposure.MOUNTS.write_text(MOUNTS)
    found = FileSystemStore(path).risks()
    assert [re.search(r"\((.+?)\)", finding)[1] for finding in found] == ([kind] if kind else [])  # type: ignore[index]
