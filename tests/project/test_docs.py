"""The documentation, tried out: its code runs, its settings are all that there are.

A Python block that cannot run is preceded by a comment that says why: ``.. skip: needs a mail server``.
"""

from __future__ import annotations

import ast
import importlib
import io
import re
import secrets
import sys
import types
import typing as t
from pathlib import Path

import pytest
import servers
from docutils import nodes
from docutils.core import publish_doctree
from flask import Flask
from pages import (
    CONFIGURATION,
    EXAMPLES,
    MOVING,
    PAGES,
    REDIS_URL,
    ROOT,
    URLS,
    blocks,
    names,
    needs_redis,
    python_blocks,
    run_block,
)

from flask_sessionstore import ConfigurationError
from flask_sessionstore.settings import SETTINGS, read_settings
from flask_sessionstore.stores import ServerSideStore
from flask_sessionstore.testing import StoreContract

# -- running a page ------------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> t.Callable[..., dict[str, t.Any]]:
    """Run a page's blocks one after the other, as one module whose folder is empty; the result is its namespace."""

    def run_page(page: Path, redis_url: str = REDIS_URL) -> dict[str, t.Any]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend(EXAMPLES)
        monkeypatch.setenv("SECRET_KEY", secrets.token_urlsafe(32))
        monkeypatch.setenv("SESSION_STORE", f"file://{tmp_path}/sessions")
        module = types.ModuleType(f"page_{page.stem.replace('-', '_').lower()}")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        for block in python_blocks(page):
            run_block(block, block.source.replace(REDIS_URL, redis_url), page, vars(module))
        return vars(module)

    return run_page


WITH_REDIS = [page for page in PAGES if needs_redis(page)]
WITHOUT = [page for page in PAGES if python_blocks(page) and page not in WITH_REDIS]


@pytest.mark.parametrize("page", WITHOUT, ids=names(WITHOUT))
def test_the_code_of_a_page_runs(page: Path, run: t.Callable[..., object]) -> None:
    run(page)


@pytest.mark.parametrize("page", WITH_REDIS, ids=names(WITH_REDIS))
def test_the_code_of_a_page_about_redis_runs(
    page: Path, run: t.Callable[..., object], valkey: servers.RedisServer
) -> None:
    run(page, redis_url=valkey.url)


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_no_code_escapes_by_having_no_language(page: Path) -> None:
    text = page.read_text()
    assert not re.findall(r"^(?!\s*\.\. ).*::$", text, re.MULTILINE)
    assert {block.language for block in blocks(page)} <= {"python", "console", "shell", "jinja", "toml", "text"}
    shown = "\n".join(block.source for block in blocks(page) if block.language == "python")
    assert text.count(">>> ") == shown.count(">>> ")


# -- the settings --------------------------------------------------------------------------------------------------


def documented_settings() -> dict[str, str]:
    """Each setting on the page about configuration, with its default as it is written there."""
    found = re.findall(r"^(\w+)\n   :type: .+\n   :default: ``(.+)``$", CONFIGURATION.read_text(), re.MULTILINE)
    return dict(found)


@pytest.mark.parametrize("name", ["getting-started", "start/tutorial", "why", "devices", "moving-stores"])
def test_the_code_that_newcomers_read_fits_beside_the_contents_on_a_desktop(name: str) -> None:
    page = ROOT / "docs" / f"{name}.rst"
    lines = [line for block in blocks(page) for line in block.source.splitlines()]
    assert [line for line in lines if len(line) > 90] == []


def test_every_setting_is_documented_and_no_other() -> None:
    assert {setting.name for setting in SETTINGS} == set(documented_settings())
    assert CONFIGURATION.read_text().count("\n   :type: ") == len(SETTINGS)


@pytest.mark.parametrize("setting", documented_settings())
def test_a_documented_default_is_the_default(setting: str) -> None:
    app = Flask(__name__)
    left_alone = read_settings(app)
    app.config[setting] = ast.literal_eval(documented_settings()[setting])
    assert read_settings(app) == left_alone


# -- without the build ---------------------------------------------------------------------------------------------

#: What docutils does not know, and leaves out without a word: a page may only lose lists of other pages by it.
SPHINX_ALONE = re.compile(r'Unknown directive type "([\w:-]+)"')
SHOWN_ALONE = [page for page in PAGES if page.name not in ("api.rst", "changes.rst")]  # made of docstrings; one include


def shown_alone(page: Path, **settings: object) -> nodes.document:
    """A page as docutils alone reads it, which is how repositories show it."""
    quiet = {
        "syntax_highlight": "none",
        "report_level": 5,
        "halt_level": 6,
        "warning_stream": io.StringIO(),
        **settings,
    }
    return publish_doctree(page.read_text(encoding="utf-8"), source_path=str(page), settings_overrides=quiet)


@pytest.mark.parametrize("page", SHOWN_ALONE, ids=names(SHOWN_ALONE))
def test_a_page_loses_nothing_where_nobody_builds_it(page: Path) -> None:
    said = io.StringIO()
    shown = shown_alone(page, report_level=1, warning_stream=said)
    assert set(SPHINX_ALONE.findall(said.getvalue())) <= {"toctree"}
    written = re.sub(r"^\.\. (toctree|meta)::(\n+    .*)*", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    written = re.sub(r"<[^<>\s]+>(?=`_)", "", written)  # where links lead
    assert len(words(shown.astext())) > 0.95 * len(words(written))
    assert all(head.astext().strip() for head in shown.findall(nodes.thead))


def words(text: str) -> list[str]:
    return re.findall(r"[a-zA-Z]{3,}", text)


def test_every_setting_is_shown_where_nobody_builds_the_page() -> None:
    terms = {term.astext() for term in shown_alone(CONFIGURATION).findall(nodes.term)}
    assert terms >= {setting.name for setting in SETTINGS}


def test_the_pictures_are_what_their_source_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "docs" / "_tools")
    pictures = importlib.import_module("pictures")
    drawn = {f"{name}.svg": pictures.draw(picture) for name, picture in pictures.PICTURES.items()}
    assert drawn == {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "pictures").iterdir()}


def test_the_addresses_of_the_project_begin_with_one() -> None:
    assert {url for url in URLS.values() if not url.startswith(URLS["Documentation"])} == set()


# -- the settings, refused -----------------------------------------------------------------------------------------


def table_of(page: Path, title: str) -> list[str]:
    """The settings in the first column of the table under ``title``."""
    part = page.read_text().partition(f"\n{title}\n")[2].partition("\n\n\n")[0]
    cells = re.findall(r"^    \* - ((?:.+\n)+?)      - ", part, re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"``(SESSION_\w+)``", cell)]


@pytest.mark.parametrize(
    "setting", [*table_of(CONFIGURATION, "Not supported yet"), *table_of(MOVING, "From Flask-Session")]
)
def test_a_setting_said_to_be_refused_is_refused(setting: str) -> None:
    app = Flask(__name__)
    app.config[setting] = True
    with pytest.raises(ConfigurationError, match=setting):
        read_settings(app)


@pytest.mark.usefixtures("lasting_disk")
def test_nothing_is_risky_about_the_recommended_settings(run: t.Callable[..., dict[str, t.Any]]) -> None:
    app = run(ROOT / "docs" / "security.rst")["app"]
    result = app.test_cli_runner().invoke(args=["sessions", "check"])
    assert result.output.endswith("\nNo findings.\n")
    assert result.exit_code == 0


class TestTheStoreWithOwners(StoreContract):
    """The store that the page about stores of one's own ends in."""

    @pytest.fixture
    def store(self, run: t.Callable[..., dict[str, t.Any]], tmp_path: Path) -> ServerSideStore:
        page = run(ROOT / "docs" / "custom-store.rst")
        return t.cast("ServerSideStore", page["SQLiteStoreWithOwners"](tmp_path / "sessions.db"))
