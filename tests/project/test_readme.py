"""The README: its first application, its settings, and where its links lead, here and on the package index."""

from __future__ import annotations

import email
import re
import sys
import tomllib
import typing as t
import zipfile
from pathlib import Path

import pytest
from pages import README, ROOT, python_blocks

from flask_sessionstore.settings import SETTINGS

sys.path.insert(0, str(ROOT))

TEXT = README.read_text(encoding="utf-8")
LINKS = re.findall(r"<([^<>\s]+)>`_", TEXT) + re.findall(r"\.\. image:: (\S+)", TEXT)


def test_the_first_application_shows_a_page_and_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = python_blocks(README)[0].source
    page: dict[str, t.Any] = {"__name__": "app"}
    monkeypatch.chdir(tmp_path)
    exec(first.replace("Flask(__name__)", f"Flask('app', instance_path={str(tmp_path)!r})"), page)
    browser = page["app"].test_client()
    assert [browser.get("/").text for _ in range(3)] == ["Visit number 1", "Visit number 2", "Visit number 3"]
    assert any(tmp_path.joinpath("sessions").iterdir())


def test_every_setting_has_a_line_in_the_table() -> None:
    assert set(re.findall(r"^``(SESSION_\w+)``  ", TEXT, re.MULTILINE)) >= {setting.name for setting in SETTINGS}


@pytest.mark.parametrize("link", sorted({link for link in LINKS if "://" not in link}))
def test_a_relative_link_leads_to_a_file(link: str) -> None:
    assert (ROOT / link).exists()


def test_the_build_makes_links_absolute(tmp_path: Path) -> None:
    hatch_build = pytest.importorskip("hatch_build", reason="hatchling builds the wheel, and is not installed here")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    metadata: dict[str, t.Any] = {"urls": project["urls"]}
    hatch_build.AbsoluteLinks(str(ROOT), {}).update(metadata)
    text = metadata["readme"]["text"]
    links = re.findall(r"<([^<>\s]+)>`_", text) + re.findall(r"\.\. image:: (\S+)", text)
    address = project["urls"]["Source"]
    assert len(links) == len(LINKS) > 20
    assert all(link.startswith("https://") for link in links)
    assert [link.removeprefix(f"{address}/") for link in links] == LINKS


def test_so_does_the_wheel() -> None:
    wheels = sorted((ROOT / "dist").glob("*.whl"))
    if not wheels:
        pytest.skip("no wheel was built: python3 dev.py check")
    with zipfile.ZipFile(wheels[-1]) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        description = email.message_from_bytes(wheel.read(name)).get_payload()
    assert not re.search(r"<(?!https?:)[\w./-]+>`_", str(description))
