"""The bench: how it reads callgrind's files, compares with budgets, and says what is missing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench import budgets, callgrind
from bench.budgets import Budgets
from bench.cases import BARE, chosen
from bench.costs import ratio
from bench.measure import costs, runs_of
from bench.reports import Report, with_table

ROOT = Path(callgrind.__file__).parents[1]
READ, NEW, IMPORT = ("memory", "read"), ("memory", "new"), ("import", "share")
HERE = ("CPython 3.13.0", "flask 3.1.3")
KNOWN = Budgets(HERE, {READ: 200.0, IMPORT: 0.2}, {READ: 180.0, NEW: 350.0})


def dump(reason: str, total: str) -> str:
    """A file as callgrind writes it, in short."""
    return f"version: 1\ndesc: Trigger: {reason}\nevents: Ir\n{total}\nfn=(1) main\n1 5\ncalls=3 0\n1 70\n"


def test_counts_are_found_under_their_names_in_the_order_of_time() -> None:
    dumps = [
        dump("Client Request: memory: read 50 KB", "summary: 4200"),
        dump("Client Request: files: read", "totals: 17"),
        dump("Client Request: memory: read 50 KB", "totals: 4300"),
        dump("Program termination", "totals: 99"),
    ]
    assert callgrind.parsed(dumps) == {"memory: read 50 KB": [4200, 4300], "files: read": [17]}


def test_the_tenth_count_comes_after_the_second() -> None:
    paths = [Path("counts.10"), Path("counts.2"), Path("counts.1")]
    assert [path.name for path in callgrind.in_order(paths)] == ["counts.1", "counts.2", "counts.10"]


@pytest.mark.parametrize(
    ("found", "above", "below"),
    [
        ({READ: 205.9}, [], []),
        ({READ: 206.1}, ["memory, read: 206.1 is 3.0% above its budget of 200"], []),
        ({READ: 194.1}, [], []),
        ({READ: 100.0}, [], ["memory, read: 100 is 50.0% below its budget of 200"]),
        ({IMPORT: 0.21}, ["import, share: 0.21 is 5.0% above its budget of 0.2"], []),
        ({NEW: 1000.0}, [], []),
        ({}, [], []),
    ],
    ids=["in the slack", "above", "in the slack below", "far below", "a share", "no budget", "not measured"],
)
def test_figures_are_compared_with_their_budgets(found: budgets.Figures, above: list[str], below: list[str]) -> None:
    assert budgets.judged(KNOWN, found) == (above, below)


def test_a_small_budget_has_the_slack_of_the_layout() -> None:
    small = KNOWN._replace(limits={READ: 50.0})
    assert budgets.judged(small, {READ: 54.9}) == ([], [])
    assert len(budgets.judged(small, {READ: 55.1})[0]) == 1


def test_what_is_written_is_read_again() -> None:
    assert budgets.read(budgets.written(KNOWN)) == KNOWN


def test_a_record_keeps_what_is_wanted_and_what_was_not_measured() -> None:
    new = budgets.recorded(KNOWN, {READ: 190.123}, HERE)
    assert new == Budgets(HERE, {READ: 190.1, IMPORT: 0.2}, KNOWN.wanted)


def test_a_record_with_other_versions_forgets_the_old_budgets() -> None:
    there = ("CPython 3.14.0", "flask 3.2.0")
    assert budgets.recorded(KNOWN, {NEW: 360.0}, there) == Budgets(there, {NEW: 360.0}, KNOWN.wanted)


def test_the_budgets_that_ci_compares_are_there() -> None:
    limits = budgets.read(budgets.FILE.read_text(encoding="utf-8")).limits
    stores = ("this project, memory", "this project, files")
    cases = {(store, name) for store in stores for name in ("untouched", "read", "write", "new")}
    assert cases | {("import flask_sessionstore", "over import flask")} <= set(limits)


@pytest.mark.parametrize("missing", ["valgrind", "gcc"])
def test_without_a_program_one_sentence_says_what_to_install(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(callgrind.CannotCount, match=f"^{missing} is not installed.*: apt-get install valgrind gcc"):
        callgrind.installed(missing)


def test_the_command_without_valgrind_ends_with_that_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench", "--instructions", "--subject", "this project, memory"]
    done = subprocess.run(
        [*command, "--dir", tmp_path],
        cwd=ROOT,
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert re.fullmatch("valgrind is not installed[^\n]+\n", done.stderr)


def test_a_kept_table_takes_the_place_of_the_one_before() -> None:
    text = "Before.\n\n.. begin ratios\n\nold\n\n.. end ratios\n\nAfter.\n"
    report = Report("ratios", "New", [["a", "b"], ["1", "2"]], "measured here")
    new = with_table(text, report)
    assert new == f"Before.\n\n.. begin ratios\n\n{report.kept}\n.. end ratios\n\nAfter.\n"
    assert with_table(new, report) == new


def test_what_is_wanted_is_printed_and_not_kept() -> None:
    rows = [["ratio", "read"], ["files", "0.15 (0.13)"]]
    report = Report("ratios", "Ratios", rows, "measured here", "what is wanted")
    assert report.printed.startswith("Ratios (in brackets what is wanted):\n")
    assert "0.15 (0.13)" in report.printed
    assert report.kept == "Ratios:\n\n=====  ====\nratio  read\n=====  ====\nfiles  0.15\n=====  ====\n"


def test_a_text_without_the_table_stays_as_it_is() -> None:
    report = Report("trips", "New", [["a"], ["1"]], "measured here")
    assert with_table("Nothing here.\n", report) == "Nothing here.\n"


def test_what_else_the_machine_does_raises_no_cost() -> None:
    quiet = {(BARE, "read"): [10.0] * 20, ("ours", "read"): [30.0] * 20}
    busy = {(BARE, "read"): [10.0] * 20, ("ours", "read"): [900.0] * 10 + [30.0] * 10}
    assert costs(quiet) == costs(busy) == {(BARE, "read"): 10.0, ("ours", "read"): 20.0}


def test_a_ratio_is_the_median_of_the_runs() -> None:
    times = {(BARE, "read"): [0.0] * 6, ("ours", "read"): [2.0, 2.0, 9.0, 9.0, 4.0, 4.0], ("theirs", "read"): [4.0] * 6}
    runs = runs_of(times, 3)
    assert ratio(runs, ("ours", "theirs", {"read": 0.45}), "read") == "1.00 (0.45)"
    assert ratio(runs, ("ours", "theirs", {}), "read") == "1.00"
    assert ratio(runs, ("ours", "nobody's", {"read": 0.45}), "read") == "–"


def test_a_subject_is_chosen_by_its_name_or_by_a_part_of_several_names() -> None:
    subjects = [BARE, "ours, memory", "ours, memory, sealed", "theirs"]
    assert chosen(subjects, None) == subjects
    assert chosen(subjects, ["ours, memory"]) == [BARE, "ours, memory"]
    assert chosen(subjects, ["memory"]) == subjects[:3]
    assert chosen(subjects, ["sealed", "theirs"]) == [BARE, *subjects[2:]]
