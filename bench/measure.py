"""Rounds and samples, and what they say of a cost."""

from __future__ import annotations

import gc
import os
import random
import typing as t
from itertools import repeat
from time import perf_counter

from .cases import BARE, FLOORS, Case

SAMPLE_SECONDS = 0.005
WARM_UP_SECONDS = 0.1
MOST_RUNS = 100

Times = dict[tuple[str, str], list[float]]
"""Microseconds per run, by subject and scenario, one figure for each round."""
Costs = dict[tuple[str, str], float]
"""Microseconds, by subject and scenario."""


def pin_to_one_core(core: int | None = None) -> int | None:
    """Puts this process, and those it starts from now on, on one core; None where the system cannot."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    core = max(os.sched_getaffinity(0)) if core is None else core
    os.sched_setaffinity(0, {core})
    return core


def timed(case: Case, count: int) -> float:
    """Seconds for *count* runs in a row, after one that only fills the processor's caches."""
    run = case.run
    run()
    start = perf_counter()
    for _ in repeat(None, count):
        run()
    return perf_counter() - start


def runs_per_sample(case: Case) -> int:
    """As many runs as fill a sample, found while warming up (connections, scripts, folders to be made)."""
    start, fastest = perf_counter(), float("inf")
    while perf_counter() < start + WARM_UP_SECONDS:
        fastest = min(fastest, timed(case, 10) / 10)
    case.tidy()
    return min(max(5, round(SAMPLE_SECONDS / fastest)), MOST_RUNS)


def measure(cases: t.Sequence[Case], rounds: int) -> Times:
    """One sample of every case in each round, in an order that changes from round to round."""
    counts = {case: runs_per_sample(case) for case in cases}
    times: Times = {(case.subject, case.scenario): [] for case in cases}
    shuffle = random.Random(2).shuffle
    order = list(cases)
    gc.collect()
    gc.freeze()
    for _ in range(rounds):
        shuffle(order)
        for case in order:
            times[case.subject, case.scenario].append(sample(case, counts[case]))
    return times


def sample(case: Case, count: int) -> float:
    gc.collect()
    gc.disable()
    try:
        return timed(case, count) / count * 1e6
    finally:
        gc.enable()
        case.tidy()


def runs_of(times: Times, runs: int) -> list[Costs]:
    """The costs in each of so many runs, one after the other."""
    rounds = len(next(iter(times.values()))) // runs
    starts = range(0, rounds * runs, rounds)
    return [costs({case: took[start : start + rounds] for case, took in times.items()}) for start in starts]


def costs(times: Times) -> Costs:
    """What the session adds to the bare request; the bare request and the floors stay as they are."""
    return {case: lower_tenth(took) - bare_time(case, times) for case, took in times.items()}


def lower_tenth(took: t.Sequence[float]) -> float:
    """The time that a tenth of the samples stay below: what else the machine does makes no sample faster."""
    return sorted(took)[len(took) // 10]


def bare_time(case: tuple[str, str], times: Times) -> float:
    subject, scenario = case
    return 0 if subject == BARE or subject in FLOORS else lower_tenth(times[BARE, scenario])
