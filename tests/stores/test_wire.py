"""Replies that reach another visitor, or are cut short: nobody sees what belongs to somebody else."""

from __future__ import annotations

import math
import re
import time
import typing as t
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from every_store import stores
from flask import Flask
from http_support import Browser, make_app, started, warnings_in
from wire import Proxy

from flask_sessionstore import SessionCorrupt, session
from flask_sessionstore.stores import OwnerIndex, Scans, ServerSideStore, from_url

HOUR = timedelta(hours=1)
MARK = b"visitor-"
#: Seconds for what has to happen.
SOON = 10


def _is_whole_in_redis(reply: bytes) -> bool:
    size, _, rest = reply.partition(b"\r\n")
    return len(rest) == int(size[1:]) + 2


#: Whether so many bytes of a reply with a record are all.
WHOLE: dict[str, t.Callable[[bytes], bool]] = {
    "redis": _is_whole_in_redis,
    "memcached": lambda reply: reply.endswith(b"\r\nEND\r\n"),
    "postgresql": lambda reply: reply[-6:-1] == b"Z\0\0\0\5",  # it is ready for the next
}
TIMEOUTS = {"redis": "socket_timeout=1", "memcached": "timeout=1", "postgresql": ""}


def url_of(name: str, request: pytest.FixtureRequest) -> str:
    if name == "redis":
        return t.cast("str", request.getfixturevalue("valkey").url)
    if name == "memcached":
        return t.cast("str", request.getfixturevalue("shared_memcached").url)
    request.getfixturevalue("shared_sql_store")(name)  # with its table
    return t.cast("str", request.getfixturevalue("shared_database")(name).url)


@pytest.fixture(params=stores(*WHOLE))
def name(request: pytest.FixtureRequest) -> str:
    return t.cast("str", request.param)


@pytest.fixture
def proxy(name: str, request: pytest.FixtureRequest) -> Iterator[Proxy]:
    port = int(t.cast("re.Match[str]", re.search(r":(\d+)(/|$)", url_of(name, request)))[1])
    with Proxy(port, MARK, WHOLE[name]) as proxy:
        yield proxy


@pytest.fixture
def app(name: str, proxy: Proxy, request: pytest.FixtureRequest) -> Flask:
    """An application whose store speaks through the proxy."""
    url = re.sub(r":\d+(/|$)", rf":{proxy.port}\1", url_of(name, request))
    if TIMEOUTS[name]:
        url += f"?{TIMEOUTS[name]}"
    app = make_app(from_url(url, prefix=f"{uuid.uuid4()}:"), TESTING=False, PROPAGATE_EXCEPTIONS=False)
    app.logger.disabled = True
    return app


Visitors = dict[str, Browser]


@pytest.fixture
def visitors(app: Flask) -> Visitors:
    return {name: started(app, name=MARK.decode() + name) for name in ("ada", "bob")}


def at_once(visitors: Visitors, action: t.Callable[[], object]) -> dict[str, tuple[int, str]]:
    """What each of them is answered, asking at the same time."""
    with ThreadPoolExecutor(len(visitors)) as threads:
        responses = threads.map(lambda browser: browser.does(action), visitors.values())
        return {name: (r.status_code, r.text) for name, r in zip(visitors, responses, strict=True)}


def who() -> str:
    return t.cast("str", session.get("name", "nobody"))


OWN = {"ada": (200, "visitor-ada"), "bob": (200, "visitor-bob")}


def test_swapped_replies_are_asked_for_again_on_new_connections(proxy: Proxy, visitors: Visitors) -> None:
    proxy.cross(1)
    assert at_once(visitors, who) == OWN
    assert len(proxy.harmed) == 2
    assert all(wire.closed.wait(SOON) for wire in proxy.harmed)
    assert at_once(visitors, who) == OWN


def test_replies_that_are_swapped_for_good_are_a_warning_and_a_new_session(
    proxy: Proxy, visitors: Visitors, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.cross(math.inf)

    def visit() -> str:
        name = who()
        session["n"] = session.get("n", 0) + 1
        return name

    assert at_once(visitors, visit) == {"ada": (200, "nobody"), "bob": (200, "nobody")}
    assert len(proxy.harmed) == 4
    assert all(wire.closed.wait(SOON) for wire in proxy.harmed[:2])
    assert len(warnings_in(caplog)) == 2
    assert at_once(visitors, visit) == {"ada": (200, "nobody"), "bob": (200, "nobody")}
    assert [browser.data for browser in visitors.values()] == [{"n": 2}] * 2


def test_a_reply_that_is_cut_short_is_asked_for_again(proxy: Proxy, visitors: Visitors) -> None:
    proxy.cut_once()
    assert {name: browser.does(who).text for name, browser in visitors.items()} == {
        name: text for name, (_, text) in OWN.items()
    }
    assert len(proxy.harmed) == 1
    assert all(wire.closed.wait(SOON) for wire in proxy.harmed)


def test_what_comes_after_the_time_out_is_nobody_s_reply(proxy: Proxy, visitors: Visitors) -> None:
    release = proxy.hold_once()
    began = time.monotonic()
    assert visitors["ada"].does(who).status_code == 503
    assert time.monotonic() - began < SOON
    (late,) = proxy.harmed
    assert late.closed.wait(SOON)
    release.set()
    for _ in range(3):
        assert visitors["bob"].does(who).text == "visitor-bob"
        assert visitors["ada"].does(who).text == "visitor-ada"


# -- a record under another name -----------------------------------------------------------------------------------


class Copied(t.NamedTuple):
    """A visitor whose record somebody has copied to where another one's is."""

    app: Flask
    visitor: Browser
    handle: str
    others: str


@pytest.fixture
def copied(server_store: ServerSideStore) -> Copied:
    app = make_app(server_store, SESSION_OWNER_KEY="name", TESTING=False, PROPAGATE_EXCEPTIONS=False)
    other, visitor = (started(app, name=f"visitor-{name}") for name in ("ada", "bob"))
    others, handle = (t.cast("str", browser.asks(lambda: session.handle)) for browser in (other, visitor))
    data = server_store.read(others)
    assert data is not None
    server_store.drop(handle)
    assert server_store.add(handle, data, HOUR)
    return Copied(app, visitor, handle, others)


def test_a_copied_record_is_one_warning_and_a_new_session(
    copied: Copied, server_store: ServerSideStore, caplog: pytest.LogCaptureFixture
) -> None:
    assert copied.visitor.does(who).text == "nobody"
    assert len(warnings_in(caplog)) == 1
    copied.visitor.does(lambda: session.update(n=1))
    caplog.clear()
    assert copied.visitor.data == {"n": 1}
    assert copied.visitor.asks(lambda: session.handle) != copied.handle
    assert warnings_in(caplog) == []
    with pytest.raises(SessionCorrupt):
        server_store.info(copied.handle)


def test_a_copied_record_is_found_nowhere_and_hides_nothing(copied: Copied, index: ServerSideStore) -> None:
    sessions = copied.app.extensions["sessionstore"]
    lists = index.ability(OwnerIndex)
    assert lists is not None
    lists.file("visitor-ada", copied.handle)  # as its bytes say
    with copied.app.app_context():
        assert [info.handle for info in sessions.find("visitor-ada")] == [copied.others]
        assert sessions.find("visitor-bob") == []
        assert sessions.revoke_all("visitor-ada") >= 1
        assert sessions.find("visitor-ada") == []


@pytest.mark.parametrize("owner", [None, "visitor-bob"])
def test_a_copied_record_can_be_ended_by_its_name(
    owner: str | None, copied: Copied, server_store: ServerSideStore
) -> None:
    sessions = copied.app.extensions["sessionstore"]
    with copied.app.app_context():
        assert sessions.revoke(copied.handle) is True
        assert sessions.revoke(copied.handle) is False


def test_the_commands_know_what_to_do_with_a_copied_record(copied: Copied, server_store: ServerSideStore) -> None:
    if server_store.ability(Scans) is None:
        pytest.skip("this store cannot list all sessions")

    def run(*words: str) -> str:
        done = copied.app.test_cli_runner().invoke(args=["sessions", *words])
        assert done.exit_code == 0, done.output
        return done.output

    assert re.search(rf"{copied.handle[:12]} +\(damaged\)", run("list"))
    assert re.search(r"damaged +1\b", run("stats"))
    run("revoke", "--all", "--yes")
    assert copied.handle[:12] not in run("list")
