"""That the recorded sessions are what the real versions of Flask-Session write today: -m writers"""

from __future__ import annotations

import os
import typing as t

import pytest
import servers
from dynamodb_servers import DynamoDBServer
from memcached_server import MemcachedServer
from sql_servers import DatabaseServer
from writers import RECORDED, VERSIONS, Case, parse, recorded, write

from flask_sessionstore.migrate import contents, session_ids

pytestmark = pytest.mark.writers

# Seconds that a session's end may lie elsewhere: files have whole ones.
_ABOUT = 3


def _said(case: Case) -> t.Any:
    """What a case says, whatever its session's id."""
    return {
        "settings": case.settings,
        "cookie": [len(part) for part in case.cookie.split(".")],
        "kept": sorted(
            (len(kept.name), kept.name.startswith("session:"), _content(case, kept.data)) for kept in case.kept
        ),
    }


def _content(case: Case, data: bytes) -> str:
    content = data[4:] if case.engine in ("files", "cachelib") else data
    if len(content) < 20:
        return "the counter"
    found = contents.read(content)
    return f"{found.kept_as} {found.foreign} {sorted(found.data.items(), key=str)}"


@pytest.mark.parametrize("version", VERSIONS)
def test_each_version_writes_what_was_recorded_of_it(
    version: str,
    valkey: servers.RedisServer,
    shared_memcached: MemcachedServer,
    shared_database: t.Callable[[str], DatabaseServer],
    shared_dynamodb: t.Callable[[str], DynamoDBServer],
) -> None:
    text = write(
        version,
        valkey.url,
        shared_memcached.port,
        shared_database("postgresql").url,
        shared_dynamodb("moto").endpoint_url,
    )
    if os.environ.get("SESSIONSTORE_RECORD"):
        (RECORDED / f"{version}.json").write_text(text + "\n")
        recorded.cache_clear()
    written = parse(version, text)
    assert [_said(case) for case in written] == [_said(case) for case in recorded(version)]
    for new, old in zip(written, recorded(version), strict=True):
        assert _ends(new) == pytest.approx(_ends(old), abs=_ABOUT)


def _ends(case: Case) -> list[int]:
    """In how many seconds what was kept ends, shortest first; 0: never, or nobody knows."""
    return sorted(kept.seconds or 0 for kept in case.kept)


def test_ids_are_of_the_length_that_was_asked_for() -> None:
    for version in VERSIONS:
        for case in recorded(version):
            sid = case.cookie.partition(".")[0]
            assert session_ids.checked(sid, case.options["id_length"]) == sid
