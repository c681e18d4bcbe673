"""The documentation as readers get it: built, searched, on a telephone, by day and by night."""

from __future__ import annotations

import html.parser
import json
import re
import subprocess
import sys
import typing as t
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from chromium import TIME_LIMIT, launched
from flask import Flask
from http_support import serving
from pages import ROOT, URLS, documents
from playwright.sync_api import Browser, Locator, Page, expect
from sphinx.search.en import SearchEnglish

pytestmark = pytest.mark.long  # building takes ten seconds

#: What people type into the search field, and the page that they need.
SOUGHT = {
    "gunicorn": "deployment",
    "nginx": "deployment",
    "load balancer": "deploy/containers",
    "docker": "deploy/containers",
    "celery": "howto/background-jobs",
    "log out everywhere": "howto/log-out-everywhere",
    "session expired": "troubleshooting",
    "remember me": "howto/remember-me",
    "sticky sessions": "deploy/containers",
    "csrf token": "howto/single-page-applications",
    "subpath": "howto/sub-paths",
    "jwt": "compared",
    "service unavailable": "errors",
    "logged out": "troubleshooting",
    "SESSION_COOKIE_SECURE": "configuration",
    "move sessions from files to redis": "moving-stores",
    "move to another store": "moving-stores",
    "files to postgresql": "moving-stores",
    "migrate from flask session": "moving",
}
TELEPHONE: t.Any = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built pages."""
    folder = tmp_path_factory.mktemp("docs")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-n", str(ROOT / "docs"), str(folder)]
    subprocess.run(command, check=True, cwd=ROOT, timeout=600)
    return folder


@pytest.fixture(scope="module")
def address(built: Path) -> t.Iterator[str]:
    """Where the built pages are served."""
    with serving(Flask("docs", static_folder=built, static_url_path="")) as (host, port):
        yield f"http://{host}:{port}"


@pytest.fixture(scope="module")
def browser() -> t.Iterator[Browser]:
    with launched() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> t.Iterator[Page]:
    with browser.new_context() as context:
        context.set_default_timeout(TIME_LIMIT)
        yield context.new_page()


class Described(html.parser.HTMLParser):
    """Collects the descriptions of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "meta" and values.get("name") == "description":
            self.found.append(values["content"] or "")


def test_no_markup_and_no_complaint_of_the_theme_is_left_over_in_a_page(built: Path) -> None:
    odd = re.compile(r"``|:(doc|ref|exc|meth|confval):|escape hatch")
    text = {name: re.sub(r"(?s)<(pre|code|title)\b.*?</\1>", "", read(built, name)) for name in documents()}
    assert {name: found[0] for name, page in text.items() if (found := odd.search(page))} == {}


def read(built: Path, name: str) -> str:
    return (built / f"{name}.html").read_text(encoding="utf-8")


def test_every_page_says_in_one_sentence_of_its_own_what_it_is_about(built: Path) -> None:
    found = {name: Described(read(built, name)).found for name in documents()}
    assert {name: texts for name, texts in found.items() if len(texts) != 1 or not 40 <= len(texts[0]) <= 250} == {}
    assert len({texts[0] for texts in found.values()}) == len(found)


def test_search_engines_and_programs_that_read_find_all_pages(built: Path) -> None:
    base = URLS["Documentation"]
    places = {place.text for place in ET.parse(built / "sitemap.xml").iter() if place.text and place.text.strip()}
    assert places == {f"{base}{name}.html" for name in documents()}
    text = (built / "llms.txt").read_text(encoding="utf-8")
    for name in set(documents()) - {"index"}:
        assert f"({base}_sources/{name}.rst.txt): " in text
        assert (built / "_sources" / f"{name}.rst.txt").exists()


def test_the_index_of_the_search_leads_from_what_people_type_to_the_page_they_need(built: Path) -> None:
    text = (built / "searchindex.js").read_text(encoding="utf-8")
    index = json.loads(text[text.index("(") + 1 : text.rindex(")")])
    language = SearchEnglish({})
    words = {query: [language.stem(word.lower()) for word in query.split()] for query in SOUGHT}
    found = {
        query: set.intersection(*(pages_with(index, word) for word in said if word not in language.stopwords))
        for query, said in words.items()
    }
    assert {query: page for query, page in SOUGHT.items() if page not in found[query]} == {}


def pages_with(index: dict[str, t.Any], word: str) -> set[str]:
    numbers = [index[kind].get(word, []) for kind in ("terms", "titleterms")]
    return {index["docnames"][n] for found in numbers for n in (found if isinstance(found, list) else [found])}


def test_the_search_shows_the_page_that_people_need_among_the_first(address: str, page: Page) -> None:
    missed = {}
    for query, wanted in SOUGHT.items():
        page.goto(f"{address}/search.html?q={query}")
        expect(page.locator("#search-results .search-summary")).to_contain_text(re.compile("found|did not match"))
        found = [link.get_attribute("href") or "" for link in page.locator("#search-results li > a").all()[:8]]
        if not any(href.startswith(f"{wanted}.html") for href in found):
            missed[query] = found
    assert missed == {}


class Look(t.NamedTuple):
    """A page on a telephone."""

    #: In pixels; more than the telephone's if the page scrolls sideways.
    width: int
    #: Short code that is broken across lines.
    broken: list[str]


# In a table, code may be broken that is not quite so short.
BROKEN = """all => all.filter(one => one.getClientRects().length > 1)
    .filter(one => one.textContent.length <= (one.closest("td") ? 15 : 24)).map(one => one.textContent)"""


@pytest.fixture(scope="module", params=["light", "dark"])
def looks(request: pytest.FixtureRequest, address: str, browser: Browser) -> dict[str, Look]:
    """Every page on a telephone, by day and by night."""
    found = {}
    with browser.new_context(viewport=TELEPHONE, color_scheme=request.param) as context:
        page = context.new_page()
        for name in [*documents(), "search", "genindex"]:
            page.goto(f"{address}/{name}.html")
            width = page.evaluate("document.documentElement.scrollWidth")
            found[name] = Look(width, page.locator("article code.literal").evaluate_all(BROKEN))
    return found


def test_no_page_scrolls_sideways_on_a_telephone(looks: dict[str, Look]) -> None:
    assert {name: look.width for name, look in looks.items() if look.width > TELEPHONE["width"]} == {}


def test_short_code_is_not_broken_across_lines(looks: dict[str, Look]) -> None:
    assert {name: look.broken for name, look in looks.items() if look.broken} == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_table_that_is_wider_than_a_telephone_shows_that_it_goes_on(
    scheme: t.Any, address: str, browser: Browser
) -> None:
    with browser.new_context(viewport=TELEPHONE, color_scheme=scheme) as context:
        page = context.new_page()
        page.goto(f"{address}/compared.html")
        table = page.locator(".table-wrapper").first
        table.scroll_into_view_if_needed()
        assert [is_shaded(table, edge) for edge in ("left", "right")] == [False, True]
        table.evaluate("element => element.scrollLeft = 60")
        assert is_shaded(table, "right")
        table.evaluate("element => element.scrollLeft = element.scrollWidth")
        assert not is_shaded(table, "right")
        headings = page.locator("th.stub").evaluate_all("all => all.map(one => one.getBoundingClientRect().left)")
        assert max(headings) < table.evaluate("element => element.getBoundingClientRect().left + 8")


def is_shaded(table: Locator, edge: str) -> bool:
    """Whether an edge of the part of a table that is seen looks otherwise than without its background."""
    seen = []
    for background in ("none", ""):
        table.evaluate("(element, value) => element.style.background = value", background)
        box = table.bounding_box()
        assert box is not None
        x = box["x"] + (1 if edge == "left" else box["width"] - 6)
        clip: t.Any = {"x": x, "y": box["y"] + 60, "width": 5, "height": 300}
        seen.append(table.page.screenshot(clip=clip))
    return seen[0] != seen[1]


@pytest.mark.parametrize(
    ("system", "chosen"),
    [("light", "auto"), ("dark", "auto"), ("light", "dark"), ("dark", "light")],
    ids=["by day", "by night", "dark by day", "light by night"],
)
def test_words_and_pictures_stand_out_from_the_page(system: t.Any, chosen: str, address: str, browser: Browser) -> None:
    with browser.new_context(color_scheme=system) as context:
        page = context.new_page()
        page.goto(f"{address}/concepts.html")
        choose(page, chosen)
        pictures = page.locator("svg.drawing")
        assert pictures.count() == 4
        for ink, paper in [
            (colour(page, "article p", "color"), colour(page, "body", "backgroundColor")),
            (colour(page, "svg.drawing text", "fill"), colour(page, "svg.drawing rect.paper", "fill")),
        ]:
            assert (sum(ink) < sum(paper)) == ((system if chosen == "auto" else chosen) == "light")
            assert contrast(ink, paper) > 7  # what WCAG 2 calls AAA


def choose(page: Page, theme: str) -> None:
    """Press the button at the top until the page has this theme."""
    for _ in range(3):
        if page.locator("body").get_attribute("data-theme") == theme:
            return
        page.locator("button.theme-toggle:visible").click()
    expect(page.locator("body")).to_have_attribute("data-theme", theme)


def colour(page: Page, selector: str, name: str) -> list[float]:
    """A colour of the first such element, as three numbers up to 255."""
    found = page.locator(selector).first.evaluate("(element, name) => getComputedStyle(element)[name]", name)
    return [float(part) for part in found[found.index("(") + 1 : -1].split(",")[:3]]


def contrast(one: list[float], other: list[float]) -> float:
    darker, brighter = sorted(map(luminance, (one, other)))
    return (brighter + 0.05) / (darker + 0.05)


def luminance(rgb: list[float]) -> float:
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in (n / 255 for n in rgb)
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_a_copied_example_has_no_prompts_and_no_answers(address: str, browser: Browser) -> None:
    with browser.new_context(permissions=["clipboard-read", "clipboard-write"]) as context:
        page = context.new_page()
        page.goto(f"{address}/index.html")
        block = page.locator("div.highlight", has_text=">>> browser").first
        block.hover()
        block.locator("button.copybtn").click()
        page.wait_for_function("navigator.clipboard.readText().then(text => text.length > 0)", timeout=TIME_LIMIT)
        copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.splitlines() == ["browser = app.test_client()", 'browser.get("/").text', 'browser.get("/").text']


def test_one_page_leads_to_the_next(address: str, page: Page) -> None:
    page.goto(f"{address}/getting-started.html")
    page.locator("a.next-page").click()
    expect(page).to_have_url(f"{address}/start/tutorial.html")
    expect(page.locator("a.prev-page")).to_be_visible()
