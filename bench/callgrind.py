"""Instructions that the processor executes in user space, counted by valgrind's callgrind.

They are the same in every run, whatever else the machine does; what the kernel and a server do is not among them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import typing as t
from pathlib import Path

CLIENT = """
#include <valgrind/callgrind.h>
void start(void) { CALLGRIND_START_INSTRUMENTATION; }
void zero(void) { CALLGRIND_ZERO_STATS; }
void dump(const char *name) { CALLGRIND_DUMP_STATS_AT(name); }
"""
"""Valgrind's requests are macros of C: this makes functions of them, for Counter."""

REPEATABLE = {
    "PYTHONHASHSEED": "0",  # the order of a set decides what runs
    "GLIBC_TUNABLES": "glibc.cpu.x86_rep_movsb_threshold=0x10000000",  # one such instruction copies any number of bytes
}


class CannotCount(Exception):
    """Why nothing can be counted here, and what to do about it."""


def counts(module: str, *arguments: str, **variables: str) -> dict[str, list[int]]:
    """What ``python -m module LIBRARY arguments`` counted, by name, in the order of time; raises CannotCount."""
    valgrind = installed("valgrind")
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        options = ["--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={folder}/counts"]
        python = [sys.executable, "-m", module, str(build(folder)), *arguments]
        command = [valgrind, *options, f"--log-file={folder}/log", *python]
        done = subprocess.run(command, check=False, env={**os.environ, **REPEATABLE, **variables})
        if done.returncode:
            said = (folder / "log").read_text(errors="replace") if (folder / "log").exists() else ""
            raise CannotCount(f"the counted process ended with {done.returncode}: {said[-2000:]}")
        return parsed(path.read_text(errors="replace") for path in in_order(folder.glob("counts.*")))


def installed(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise CannotCount(
            f"{program} is not installed, which counts instructions: apt-get install valgrind gcc libc6-dev"
        )
    return path


def build(folder: Path) -> Path:
    """The library for Counter, by the C compiler and the header that valgrind brings."""
    (folder / "client.c").write_text(CLIENT)
    library = folder / "client.so"
    command = [installed("gcc"), "-O1", "-shared", "-fPIC", "-o", str(library), str(folder / "client.c")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotCount(
            f"gcc cannot compile with valgrind's header: apt-get install valgrind libc6-dev\n{done.stderr}"
        )
    return library


def in_order(paths: t.Iterable[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: int(path.suffix[1:]))


def parsed(dumps: t.Iterable[str]) -> dict[str, list[int]]:
    """The totals in callgrind's files, by the name that each was dumped under; others have no name."""
    found: dict[str, list[int]] = {}
    for dump in dumps:
        name = re.search(r"^desc: Trigger: Client Request: (.+)$", dump, re.MULTILINE)
        total = re.search(r"^(?:totals|summary): (\d+)", dump, re.MULTILINE)
        if name and total:
            found.setdefault(name[1].strip(), []).append(int(total[1]))
    return found
