"""A second of fuzzing: what was ever found, and what Hypothesis makes of the inputs that the fuzzers start from.

``python -m fuzz`` goes on from here for as long as one likes: see CONTRIBUTING.rst.
"""

from __future__ import annotations

import contextlib
import time
import tracemalloc
import typing as t
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flask_sessionstore import Record
from flask_sessionstore.layout import pack
from fuzz import MAX_LENGTH, SECONDS, TARGETS, kept, memory_bound, memory_used, requests, target

SEEDS = {name: target(name).seeds() for name in TARGETS}
KEPT = {name: kept(name) for name in TARGETS}


@pytest.fixture(scope="module", autouse=True)
def tracing() -> t.Iterator[None]:
    for name, seeds in SEEDS.items():
        for seed in seeds:
            with contextlib.suppress(Exception):  # which the tests will meet again
                target(name).check(seed)  # what is made once and kept is no input's
    tracemalloc.start()
    yield
    tracemalloc.stop()


def check(name: str, data: bytes) -> None:
    began = time.perf_counter()
    assert memory_used(target(name).check, data) <= memory_bound(len(data))
    assert time.perf_counter() - began < SECONDS


def test_the_fuzzers_requests_have_a_session() -> None:
    """Else all inputs would be fine."""
    seen: list[dict[str, object]] = []
    record = Record(state={"user": b"\xa3ann"}).written(requests.NOW * 1000, timedelta(hours=1))
    for seal in (False, True):
        store = requests.store_with(pack(record, requests.KEY.handle), seal)
        requests.respond(requests.HEADER, lambda session: seen.append(dict(session)), store)
    assert seen == [{"user": "ann"}] * 2


@pytest.mark.parametrize("name", TARGETS)
def test_the_targets_start_from_inputs_that_are_fine(name: str) -> None:
    assert len(SEEDS[name]) >= 5
    for seed in SEEDS[name]:
        check(name, seed)


@pytest.mark.parametrize(
    ("name", "path"),
    [pytest.param(name, path, id=f"{name}-{path.name}") for name in TARGETS for path in KEPT[name]],
)
def test_what_was_found_once_stays_mended(name: str, path: Path) -> None:
    check(name, path.read_bytes())


def test_no_input_that_is_kept_is_longer_than_those_that_are_tried() -> None:
    assert all(path.stat().st_size <= MAX_LENGTH for paths in KEPT.values() for path in paths)
    assert all(KEPT.values())


@st.composite
def mutations(draw: st.DrawFn, name: str) -> bytes:
    """A seed or two, cut, spliced, and with bytes of another kind in it."""
    inputs = st.sampled_from([*SEEDS[name], *(path.read_bytes() for path in KEPT[name])])
    data = draw(inputs)
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(start + 9, len(data))))
        piece = draw(
            st.binary(max_size=9) | inputs | st.sampled_from([b"\xff" * 8, b"\x00" * 8, b";session=", b"\xc1"])
        )
        data = data[:start] + piece + data[end:]
    return data


bounded = settings(max_examples=50)


@bounded
@given(st.binary() | mutations("tokens"))
def test_no_header_and_no_token_breaks_what_must_hold(data: bytes) -> None:
    check("tokens", data)


@bounded
@given(st.binary() | mutations("records"))
def test_no_record_breaks_what_must_hold(data: bytes) -> None:
    check("records", data)


@bounded
@given(st.binary() | mutations("values"))
def test_no_value_breaks_what_must_hold(data: bytes) -> None:
    check("values", data)
