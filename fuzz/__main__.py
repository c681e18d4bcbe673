"""The command: ``python -m fuzz [--seconds N] [target...]``."""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path

from . import CORPUS, MAX_LENGTH, SECONDS, TARGETS, kept, memory_bound, memory_used, target

_RSS_LIMIT = 1024  # in megabytes: far above what any input may take


def main() -> int:
    """Fuzz each target for so long; 1 if one failed."""
    parser = argparse.ArgumentParser("python -m fuzz", description="Search for inputs that break what must hold.")
    parser.add_argument("--seconds", type=int, default=300, help="for each target (default: 300)")
    parser.add_argument("--corpus", type=Path, help="a folder for what is found interesting, to go on from next time")
    parser.add_argument("--found", type=Path, default=CORPUS, help="where to leave what fails (default: %(default)s)")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("targets", nargs="*", metavar="target", help=", ".join(TARGETS) + " (default: all)")
    chosen = parser.parse_args()
    if unknown := set(chosen.targets) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    if importlib.util.find_spec("atheris") is None:
        parser.error("atheris is not installed: pip install atheris")
    if chosen.one:
        return fuzz(chosen.targets[0], chosen.seconds, chosen.corpus, chosen.found)
    with tempfile.TemporaryDirectory() as folder:
        # A process for each: libFuzzer ends its own.
        corpus = chosen.corpus or Path(folder)
        return max(
            start(name, chosen.seconds, corpus / name, chosen.found / name) for name in chosen.targets or TARGETS
        )


def start(name: str, seconds: int, corpus: Path, found: Path) -> int:
    """Fuzz one target in a process of its own; 1 if it failed."""
    print(f"=== {name}", flush=True)
    options = ["--seconds", str(seconds), "--corpus", str(corpus), "--found", str(found)]
    return int(subprocess.run([sys.executable, "-m", "fuzz", "--one", *options, name], check=False).returncode != 0)


def fuzz(name: str, seconds: int, corpus: Path, found: Path) -> int:
    """Fuzz in this process, until something fails or the time is over.

    :param corpus: takes what is found interesting.
    :param found: takes what fails.
    """
    import atheris

    with atheris.instrument_imports(include=["flask_sessionstore", "itsdangerous"]):
        module = target(name)
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(module.seeds()):
        module.check(seed)  # what is made once and kept is no input's
        (corpus / f"seed-{number}").write_bytes(seed)
    found.mkdir(parents=True, exist_ok=True)

    def check(data: bytes) -> None:
        used = memory_used(module.check, data)
        assert used <= memory_bound(len(data)), f"{used} bytes of memory for an input of {len(data)}"

    options = [
        f"-max_total_time={seconds}",
        f"-max_len={MAX_LENGTH}",
        f"-timeout={SECONDS}",
        f"-rss_limit_mb={_RSS_LIMIT}",
        f"-artifact_prefix={found}{os.sep}",
        "-print_final_stats=1",
    ]
    logging.disable()  # what is logged about damaged records is right, and endless
    tracemalloc.start()
    atheris.Setup([sys.argv[0], *options, str(corpus), *([str(CORPUS / name)] if kept(name) else [])], check)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
