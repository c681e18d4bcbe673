"""The example shop in a real browser, Debian's Chromium: what a visitor clicks, and what becomes of the cookie.

And, over HTTPS, two shops beside a hostile host below the same domain.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import typing as t
from datetime import UTC, datetime, timedelta
from pathlib import Path

import neighbours
import pytest
import servers
import shop_server
from chromium import TIME_LIMIT, launched
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from playwright.sync_api import Browser, BrowserContext, Page, expect
from shops import GATED, SHOPS

pytestmark = [pytest.mark.server, pytest.mark.long]

SUPPORT = Path(servers.__file__).resolve().parent
EXAMPLES = SUPPORT.parents[1] / "examples"

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
SAFARI = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
    " Version/18.5 Mobile/15E148 Safari/604.1"
)

Cookie = dict[str, t.Any]


@pytest.fixture(scope="module")
def browser() -> t.Iterator[Browser]:
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def gate() -> t.Iterator[socket.socket]:
    """Where log-ins wait on the host that is called GATED."""
    with socket.create_server(("127.0.0.1", 0)) as gate:
        gate.settimeout(TIME_LIMIT / 1000)
        yield gate


@pytest.fixture(scope="module")
def port(gate: socket.socket, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[int]:
    """Of the shops, served by two processes with files for sessions."""
    folder = tmp_path_factory.mktemp("browser") / "examples"
    shutil.copytree(EXAMPLES, folder, ignore=shutil.ignore_patterns("instance", "__pycache__"))
    options = ["--workers=2", "--threads=4", f"--pythonpath={SUPPORT}"]
    settings = {"GATE": str(gate.getsockname()[1])}
    with shop_server.gunicorn(folder, "shops:make_shops()", *options, settings=settings) as port:
        yield port


class Open(t.Protocol):
    """Opens a shop in a browser window of its own, with its own cookies."""

    def __call__(self, host: str = "shop.localhost", path: str = "/login", **options: t.Any) -> Page: ...


@pytest.fixture
def visit(browser: Browser, port: int) -> t.Iterator[Open]:
    with contextlib.ExitStack() as stack:

        def visit(host: str = "shop.localhost", path: str = "/login", **options: t.Any) -> Page:
            context = browser.new_context(base_url=f"http://{host}:{port}", **options)
            stack.callback(context.close)
            context.set_default_timeout(TIME_LIMIT)
            page = context.new_page()
            page.goto(path)
            return page

        yield visit


# -- what visitors do ----------------------------------------------------------------------------------------------


def fill_in(page: Page, *, name: str = "ada", password: str = "lovelace") -> None:
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)


def log_in(page: Page, **who: str) -> None:
    fill_in(page, **who)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("status")).to_contain_text("Welcome")


def go_to_devices(page: Page) -> None:
    page.get_by_role("link", name="Devices").click()
    expect_devices_page(page)


def expect_devices_page(page: Page) -> None:
    expect(page).to_have_title(re.compile("^Where you are signed in"))


def sign_out_everywhere_else(page: Page) -> None:
    page.get_by_role("button", name="Sign out everywhere else").click()
    expect(page.get_by_role("status")).to_contain_text(re.compile("signed out|nowhere else"))


def expect_log_in_page(page: Page) -> None:
    expect(page).to_have_title(re.compile("^Log in"))


def test_a_device_that_is_signed_out_elsewhere_is_at_the_log_in_and_signs_in_again_at_once(visit: Open) -> None:
    desk, phone, graces = visit(user_agent=FIREFOX), visit(user_agent=SAFARI), visit()
    log_in(desk)
    go_to_devices(desk)
    sign_out_everywhere_else(desk)  # what other tests have left
    log_in(phone)
    log_in(graces, name="grace", password="hopper")
    desk.reload()
    rows = desk.get_by_role("row")
    expect(rows.filter(has_text="This device")).to_contain_text("Firefox on Linux, 127.0.0.1")

    desk.get_by_role("button", name="Sign out Safari on iPhone").click()
    expect(desk.get_by_role("status")).to_have_text("That device is signed out.")
    expect(rows).to_have_count(2)  # with that of the headings
    phone.get_by_role("link", name="Orders").click()
    expect_log_in_page(phone)
    log_in(phone)

    sign_out_everywhere_else(desk)
    expect(desk.get_by_role("status")).to_have_text("1 other device is signed out.")
    expect(rows).to_have_count(2)
    phone.get_by_role("link", name="Orders").click()
    expect_log_in_page(phone)
    go_to_devices(graces)


def test_the_devices_fit_in_a_narrow_window_and_need_no_script(visit: Open) -> None:
    page = visit(viewport={"width": 320, "height": 640}, java_script_enabled=False)
    log_in(page)
    go_to_devices(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 320
    expect(page.get_by_role("columnheader")).to_have_text(["Device", "Signed in", "Last seen"])
    this_device = page.get_by_role("row").filter(has_text="This device")
    expect(this_device.get_by_role("rowheader")).to_be_visible()

    this_device.get_by_role("button", name="Sign out").click()
    expect_log_in_page(page)
    expect(page.get_by_role("status")).to_have_text("That device is signed out.")
    assert not page.context.cookies(), "nothing is left once the message was shown"


def test_a_double_clicked_log_in_signs_in(visit: Open, gate: socket.socket) -> None:
    page = visit(GATED, "/")
    page.get_by_role("button", name="Add to cart: Stoneware mug").click()
    page.get_by_role("link", name="Log in").click()
    fill_in(page)
    box = page.get_by_role("button", name="Log in").bounding_box()
    assert box
    with contextlib.ExitStack() as requests:  # which wait for each other, with the same cookie
        for _ in range(2):
            page.mouse.click(box["x"] + 5, box["y"] + 5)
            requests.enter_context(gate.accept()[0])
    expect(page).to_have_title(re.compile("^Your cart"))
    expect(page.get_by_role("heading", name="Stoneware mug")).to_be_visible()
    go_to_devices(page)


def test_a_form_on_another_site_logs_nobody_out(visit: Open) -> None:
    page = visit()
    log_in(page)
    form = f'<form method="post" action="{page.url}logout"><button>Win</button></form>'
    page.route("http://elsewhere.example/", lambda route: route.fulfill(content_type="text/html", body=form))
    page.goto("http://elsewhere.example/")
    page.get_by_role("button", name="Win").click()
    expect(page).to_have_title("403 Forbidden")
    page.goto("/devices")
    expect_devices_page(page)


# -- the two lanes -------------------------------------------------------------------------------------------------


def try_both_lanes(page: Page, button: str) -> dict[str, str]:
    """What each lane says after the button was pressed, by the lane's heading."""
    page.get_by_role("button", name=button).click()
    expect(page.get_by_role("button", name=button)).to_be_enabled()
    lanes = page.get_by_role("region")
    headings, verdicts = lanes.get_by_role("heading"), lanes.get_by_role("status")
    return dict(zip(headings.all_inner_texts(), verdicts.all_inner_texts(), strict=True))


@pytest.mark.parametrize(
    ("button", "harm", "right"),
    [
        ("Two tabs write at once", "lost", "Both are in the cart."),
        ("Log out while a page is loading", "logged in again", "Ada stays logged out."),
    ],
)
def test_the_lanes_show_what_flasks_cookie_loses_and_this_project_keeps(
    visit: Open, button: str, harm: str, right: str
) -> None:
    page = visit(path="/two-at-once")
    for _ in range(10):  # on a machine with much else to do the two requests may come one after the other
        verdicts = try_both_lanes(page, button)
        assert verdicts["With this project"] == right
        if harm in verdicts["With Flask's cookie"]:
            return
    pytest.fail("Flask's cookie lost nothing in ten tries")


def test_the_lanes_fit_in_a_narrow_window_and_touch_nothing_of_the_shop(visit: Open) -> None:
    page = visit(viewport={"width": 390, "height": 640})
    log_in(page)
    page.get_by_role("link", name="What happens to it").click()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    try_both_lanes(page, "Log out while a page is loading")
    go_to_devices(page)
    assert len([cookie for cookie in page.context.cookies() if cookie["path"] == "/"]) == 1


# -- cookies -------------------------------------------------------------------------------------------------------


def cookie_of(page: Page) -> Cookie:
    """The one cookie that the browser has."""
    (cookie,) = page.context.cookies()
    return t.cast("Cookie", cookie)


@pytest.mark.parametrize(
    ("host", "remember"),
    [("shop.localhost", False), ("strict.localhost", True), ("partitioned.localhost", True)],
    ids=["as-it-comes", "strict", "partitioned"],
)
def test_the_browser_takes_keeps_and_drops_the_cookie(visit: Open, host: str, remember: bool) -> None:
    settings = SHOPS[host]
    page = visit(host)
    fill_in(page)
    page.get_by_label("Remember me").set_checked(remember)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("status")).to_have_text("Welcome, Ada!")

    cookie = cookie_of(page)
    assert cookie["name"] == settings.get("SESSION_COOKIE_NAME", "session")
    assert cookie["httpOnly"]
    assert cookie["secure"] == settings.get("SESSION_COOKIE_SECURE", False)
    assert cookie["sameSite"] == settings.get("SESSION_COOKIE_SAMESITE", "Lax")
    assert ("partitionKey" in cookie) == settings.get("SESSION_COOKIE_PARTITIONED", False)
    assert (cookie["domain"], cookie["path"]) == (host, "/")
    assert (cookie["expires"] > 0) == remember
    assert page.evaluate("document.cookie = 'mine=1'; document.cookie") == "mine=1", "no script can read it"
    page.evaluate("document.cookie = 'mine=1; Max-Age=0'")

    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("status")).to_contain_text("You are logged out.")
    assert not page.context.cookies(), "nothing is left once the message was shown"


# -- beside a hostile host -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def secure_port(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[int]:
    """Of the neighbours, served over HTTPS by one process."""
    certificate, key = make_certificate(tmp_path_factory.mktemp("https"))
    options = [f"--certfile={certificate}", f"--keyfile={key}", "--threads=4"]
    with shop_server.gunicorn(SUPPORT, "neighbours:make_hosts()", *options, settings={}) as port:
        yield port


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """One that nobody vouches for, and its key."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("*.example.test")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


class Window:
    """A browser of somebody's, with its own cookies, who types addresses."""

    def __init__(self, context: BrowserContext, port: int, host: str) -> None:
        self.context, self.host, self._port = context, host, port
        self.page = context.new_page()

    def get(self, path: str, host: str | None = None) -> str:
        """What the page says."""
        response = self.page.goto(f"https://{host or self.host}:{self._port}{path}")
        assert response
        assert response.status == 200
        return response.text()

    def sends(self, path: str = "/header") -> str:
        """The Cookie header for this page, as WSGI has it."""
        return bytes.fromhex(self.get(path)).decode("latin-1")

    def is_given(self, cookie: str) -> None:
        """A visit to the hostile host, which sets this cookie."""
        self.get(f"/?{cookie.encode('latin-1').hex()}", neighbours.EVIL)

    def own_cookie(self) -> str:
        """The value that the shop itself has set."""
        (value,) = (c["value"] for c in self.context.cookies() if c.get("domain") == self.host)
        return str(value)


OpenWindow = t.Callable[[str], Window]


@pytest.fixture
def window(browser: Browser, secure_port: int) -> t.Iterator[OpenWindow]:
    with contextlib.ExitStack() as stack:

        def window(host: str) -> Window:
            context = browser.new_context(ignore_https_errors=True)
            stack.callback(context.close)
            context.set_default_timeout(TIME_LIMIT)
            return Window(context, secure_port, host)

        yield window


def logged_in(window: Window, name: str) -> Window:
    window.get("/login")
    window.page.get_by_role("textbox").fill(name)
    window.page.get_by_role("button").click()
    expect(window.page.locator("body")).to_have_text("welcome")
    assert window.get("/") == name
    return window


@pytest.mark.parametrize(
    "blank",
    [
        "\xa0",
        *(pytest.param(name, marks=pytest.mark.long) for name in ("\x85", "\xc2\xa0", "\xc2\x85", "\xe2\x80\x83")),
    ],
)
def test_a_planted_name_that_only_begins_with_a_blank_is_not_heard(window: OpenWindow, blank: str) -> None:
    """A neighbour may set no ``__Host-session``, but one with a blank before it that only some parsers cut off."""
    mallory, visitor = logged_in(window(neighbours.SHOP), "mallory"), window(neighbours.SHOP)
    planted = f"{blank}__Host-session={mallory.own_cookie()}"
    visitor.is_given(f"{planted}; Domain=example.test; Path=/; Secure")
    assert visitor.sends() == planted
    assert visitor.get("/") == "nobody"
    logged_in(visitor, "ann")
    assert planted in visitor.sends()
    visitor.get("/logout/clear")
    assert visitor.get("/") == "nobody"
    assert mallory.get("/") == "mallory"


@pytest.mark.parametrize("way", [pytest.param("clear", marks=pytest.mark.long), "flask-login"])
@pytest.mark.parametrize("path", [pytest.param("/", marks=pytest.mark.long), "/logout"])
def test_a_log_out_with_two_living_cookies_is_one(window: OpenWindow, way: str, path: str) -> None:
    """The other was planted by a neighbour, for the whole domain; with a path it comes first, and only here."""
    mallory, visitor, thief = (window(neighbours.TILL) for _ in range(3))
    logged_in(mallory, "mallory")
    logged_in(visitor, "ann")
    own = visitor.own_cookie()
    visitor.is_given(f"session={mallory.own_cookie()}; Domain=.example.test; Path={path}; Secure")
    assert visitor.sends("/logout/header").count("session=") == 2
    assert visitor.get(f"/logout/{way}") == "bye"
    assert visitor.get("/") == "nobody"
    address = f"https://{neighbours.TILL}"
    thief.context.add_cookies([{"name": "session", "value": own, "url": address}])
    assert thief.get("/") == "nobody"
    logged_in(visitor, "bob")


def test_a_log_in_with_two_living_cookies_holds_at_once(window: OpenWindow) -> None:
    mallory, visitor = logged_in(window(neighbours.TILL), "mallory"), window(neighbours.TILL)
    visitor.get("/cart")
    visitor.is_given(f"session={mallory.own_cookie()}; Domain=.example.test; Path=/; Secure")
    assert visitor.sends().count("session=") == 2
    logged_in(visitor, "ann")
    assert visitor.sends().count("session=") == 2, "the dead one stays"
    assert mallory.get("/") == "nobody"
    visitor.get("/logout/clear")
    assert visitor.get("/") == "nobody"
