"""The process that is counted: python -m bench.counted LIBRARY PLACE SUBJECTS SCENARIOS, the last three as JSON."""

from __future__ import annotations

import gc
import json
import sys
from functools import partial
from itertools import repeat
from pathlib import Path

from .apps import Place
from .cases import OURS_FILES, Case, possible_cases
from .counter import Counter

BATCHES, RUNS = 3, 10
"""Of the batches the median counts, so that what happens once in a while does not."""
WARM_UP, WARM_UP_NEW = 100, 1000
"""The interpreter adapts its bytecode, and stores connect; new files make folders, for which a hundred is too few."""


def main(library: str, place: str, subjects: str, scenarios: str) -> None:
    where = json.loads(place)
    cases = possible_cases(Place(Path(where["folder"]), where["urls"]), json.loads(subjects), json.loads(scenarios))
    for case in cases:
        several(case, WARM_UP_NEW if (case.subject, case.scenario) == (OURS_FILES, "new") else WARM_UP)
    gc.collect()
    gc.freeze()
    gc.disable()
    counter = Counter(library)
    for case in cases:
        try:
            count(case, counter)
        except RuntimeError as reason:  # on a slow day a connection was lost meanwhile, say
            print(f"skipped: {case.subject}, {case.scenario}: {reason}", file=sys.stderr)


def count(case: Case, counter: Counter) -> None:
    several(case, 3)
    for _ in range(BATCHES):
        counter.count(f"{case.subject}: {case.scenario}", partial(several, case, RUNS))


def several(case: Case, count: int) -> None:
    run = case.run
    for _ in repeat(None, count):
        run()


if __name__ == "__main__":
    main(*sys.argv[1:])
