"""What servers do to a process that has used its store already: a fork in C, greenlets patched in before or after."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from places import PLACES, settings

import flask_sessionstore

HERE = Path(__file__).parent
#: Seconds after which a program counts as hanging; one takes two on a machine that is free.
TIME_LIMIT = 150
SHARED = [name for name in PLACES if name not in ("cookie", "memory", "memory+postgresql")]


def check(script: str, *words: str) -> None:
    """What a program of this folder prints is as it should be."""
    path = str(Path(flask_sessionstore.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, HERE / script, *words],
        capture_output=True, text=True, check=False, timeout=TIME_LIMIT, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-5000:]
    result = json.loads(done.stdout)
    assert result["wrong"] == {}, done.stderr[-5000:]
    assert result["count"] == result["told"]


def for_the_demo(place: str, request: pytest.FixtureRequest, folder: Path) -> str:
    return json.dumps(settings(place, request, warm=True)).replace("{folder}", str(folder))


#: What the default run takes; the long one takes all.
SOME = ("file", "memcached", "postgresql", "redis")
SOME_PATCHED = {("gevent", "file", "after"), ("gevent", "redis", "after"), ("gevent", "postgresql", "after")}
PATCHED = [
    (library, place, when)
    for library, places in {
        "gevent": ("memory", "file", "redis", "memcached", "dynamodb", "postgresql", "mariadb"),
        "eventlet": ("memory", "redis", "postgresql"),
    }.items()
    for place in places
    for when in ("before", "after")
]


@pytest.mark.parametrize(
    "place", [pytest.param(place, marks=() if place in SOME else pytest.mark.long) for place in SHARED]
)
def test_a_fork_that_python_is_not_told_of_gives_nobody_anothers_session(
    place: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    check("forked.py", for_the_demo(place, request, tmp_path))


@pytest.mark.parametrize(
    ("library", "place", "when"),
    [
        pytest.param(*case, id="-".join(case), marks=() if case in SOME_PATCHED else pytest.mark.long)
        for case in PATCHED
    ],
)
def test_greenlets_may_be_patched_in_at_any_time(
    library: str, place: str, when: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    check("patched.py", library, when, for_the_demo(place, request, tmp_path))
