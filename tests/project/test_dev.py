"""dev.py: what it says where it cannot work, and that its own checks bite."""

from __future__ import annotations

import ast
import re
import runpy
import subprocess
import sys
import tomllib
import typing as t
from pathlib import Path

import pytest

import dev

ROOT = Path(dev.__file__).parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
HOLE = {"id": "CVE-1", "fix_versions": ["1.1"], "description": "It opens the door."}


def test_an_older_python_is_told_in_one_sentence_which_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    ast.parse((ROOT / "dev.py").read_text(), feature_version=(3, 7))
    monkeypatch.setattr(sys, "version_info", (3, 10, 13, "final", 0))
    with pytest.raises(SystemExit, match=r"^dev\.py needs Python 3\.11 or newer; this is [^\n]+$"):
        runpy.run_path(str(ROOT / "dev.py"))


def test_the_group_of_drivers_has_what_every_extra_brings() -> None:
    extras = {name for extra in PROJECT["project"]["optional-dependencies"].values() for name in map(bare, extra)}
    assert {*map(bare, PROJECT["dependency-groups"]["drivers"]), "pytest"} == extras


class Slow:
    """A program that takes as many waits as it is asked to."""

    def __init__(self, waits: int) -> None:
        self.waits = waits

    def wait(self, timeout: float) -> None:
        if self.waits:
            self.waits -= 1
            raise subprocess.TimeoutExpired("pip", timeout)


@pytest.mark.parametrize(("waits", "shown"), [(0, ""), (3, "...\n")])
def test_while_pip_is_silent_dots_show_that_it_works(
    waits: int, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    dev.wait_for(t.cast("t.Any", Slow(waits)))
    assert capsys.readouterr().out == shown


def test_an_installation_that_fails_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dev, "SCRIPTS", Path(sys.executable).parent)
    monkeypatch.setattr(dev, "QUIET_PIP", ("-c", "import sys; sys.exit(3)"))
    with pytest.raises(subprocess.CalledProcessError) as caught:
        dev.pip_install("anything")
    assert caught.value.returncode == 3


@pytest.mark.parametrize("changes", [(), ("wheel",), ("pyproject.toml",)], ids=["nothing", "the wheel", "the project"])
def test_the_project_is_installed_again_when_it_has_changed(
    changes: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ran: list[tuple[str, ...]] = []
    for name in ("wheel", "pyproject.toml"):
        (tmp_path / name).write_text("one")
    monkeypatch.setattr(dev, "ROOT", tmp_path)
    monkeypatch.setattr(dev, "VENV", tmp_path)
    monkeypatch.setattr(dev, "WHEEL", str(tmp_path / "wheel"))
    monkeypatch.setattr(dev, "make_environment", lambda: None)
    monkeypatch.setattr(dev, "pip_install", lambda *words, **variables: ran.append(words))
    dev.install("docs")
    dev.install("test")
    ran.clear()
    for name in changes:
        (tmp_path / name).write_text("two")
    dev.install("test")
    dev.install("test")
    assert len(ran) == (3 if changes else 0)
    dev.install("docs")
    assert len(ran) == (6 if changes else 0)


def bare(requirement: str) -> str:
    return re.split("[<>=;]", requirement)[0]


def test_where_the_wheel_is_tested_nothing_else_can_be_imported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dev, "VENV", tmp_path / "venv")
    left = tmp_path / "venv" / "project" / "tests" / "test_that_was_removed.py"
    left.parent.mkdir(parents=True)
    left.touch()
    left.with_suffix(".pyc").touch()
    folder = dev.without_package()
    assert (folder / "tests" / "project" / "test_dev.py").exists()
    assert not (folder / "flask_sessionstore").exists()
    assert (left.exists(), left.with_suffix(".pyc").exists()) == (False, True)
    monkeypatch.setattr(dev, "VENV", Path(sys.prefix))
    monkeypatch.setattr(dev, "SCRIPTS", Path(sys.executable).parent)
    monkeypatch.setattr(dev, "WHEEL", "a.whl")
    (tmp_path / "flask_sessionstore.py").touch()
    assert dev.check_source(tmp_path) == 1
    assert f"would import {tmp_path / 'flask_sessionstore.py'}" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("flask==3.1.3 \\\n    --hash=sha256:newer\nredis==8.1 ; python_version < '3.13' \\\n", None),
        ("flask==3.2.0 \\\n    --hash=sha256:newer\n", "does not satisfy pyproject.toml, which wants: flask==3.2.0."),
    ],
    ids=["a hash more", "another version"],
)  # fmt: skip
def test_a_lock_that_does_not_satisfy_the_project_is_named_and_what_it_lacks(
    wanted: str,
    said: str | None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text("flask==3.1.3 \\\n    --hash=sha256:older\nredis==8.1 ; python_version < '3.13' \\\n")
    monkeypatch.setattr(dev, "LOCK", lock)
    monkeypatch.setattr(dev, "write_lock", lambda path: int(path.write_text(wanted) == 0))
    assert dev.check_lock() == (said is not None)
    assert (said or "") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("packages", "code", "said"),
    [
        ([{"name": "a", "version": "1", "vulns": []}], 0, "packages looked up: 1 of 1; known vulnerabilities: 0\n"),
        (
            [{"name": "a", "version": "1", "vulns": [HOLE]}, {"name": "b", "skip_reason": "not there"}],
            1,
            "a 1: CVE-1, mended in 1.1. It opens the door.\npackages looked up: 1 of 2; known vulnerabilities: 1\n",
        ),
        ([{"name": "b", "skip_reason": "not there"}], 0, "no vulnerability was looked up: the index has no answer"),
    ],
    ids=["none known", "one known", "nothing known of any"],
)
def test_a_known_vulnerability_is_a_failure_and_silence_is_called_that(
    packages: list[dict[str, t.Any]], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dev.report(packages) == code
    assert capsys.readouterr().out.startswith(said)


def test_only_a_service_that_cannot_be_reached_excuses_a_missing_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert dev.report_failure("Traceback ...\nrequests.exceptions.ConnectionError: no route to host\n") == 0
    assert capsys.readouterr().out.startswith("no vulnerability was looked up: requests.exceptions.ConnectionError")
    assert dev.report_failure("usage: pip-audit\npip-audit: error: unrecognized arguments\n") == 1
    assert "unrecognized arguments" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("measured", "said"),
    [
        ('["CPython 3.13.0", "flask 3.1.3", "redis 8.1"]', None),
        ('["CPython 3.13.0", "flask 3.1.2"]', "was measured with flask 3.1.2, which lock.txt does not name."),
    ],
    ids=["those in the lock", "another"],
)
def test_budgets_of_other_versions_than_the_locked_are_named(
    measured: str, said: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "lock.txt").write_text(
        "flask==3.1.3 \\\n    --hash=sha256:x\nredis==8.1 ; python_version < '3.13' \\\n"
    )
    (tmp_path / "budgets.toml").write_text(f"measured = {measured}\n")
    monkeypatch.setattr(dev, "LOCK", tmp_path / "lock.txt")
    monkeypatch.setattr(dev, "BUDGETS", tmp_path / "budgets.toml")
    assert dev.check_budgets() == bool(said)
    assert (said or "") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "served"),
    [([], "8000"), (["--port", "8001"], "8001"), (["--build"], None)],
    ids=["as always", "on another port", "only built"],
)
def test_the_documentation_is_built_and_then_served_on_this_machine_alone(
    options: list[str], served: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[tuple[str, ...]] = []

    def run(*command: str) -> int:
        ran.append(command)
        return 0

    monkeypatch.setattr(dev, "install", run)
    monkeypatch.setattr(dev, "run", run)
    assert dev.docs(options) == 0
    groups, build, *serve = ran
    assert groups == ("docs",)
    assert build[0] == "sphinx-build"
    assert [(command[4], command[-1]) for command in serve] == ([("127.0.0.1", served)] if served else [])


def test_documentation_that_cannot_be_built_is_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def run(program: str, *_arguments: str) -> int:
        ran.append(program)
        return 1

    monkeypatch.setattr(dev, "install", lambda *groups: None)
    monkeypatch.setattr(dev, "run", run)
    assert dev.docs([]) == 1
    assert ran == ["sphinx-build"]
