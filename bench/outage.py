"""What visitors notice of a Redis that hangs: ``python -m bench.outage``, beside ``python -m bench``.

gunicorn serves a small application with two processes of eight threads. Fifty requests a second use their session, ten
a second ask for a page without a session. After some seconds Redis is stopped (SIGSTOP), later it goes on. Requests are
sent at their time, however many are still open.

The package is imported from the working directory, or from the folder that ``--package`` names.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import typing as t
from pathlib import Path

from .outage_app import STORE
from .server import free_port, valkey_program, wait_until_ready

PROCESSES, THREADS = 2, 8
VISITORS = 50
PATIENCE = 60


class Answer(t.NamedTuple):
    """One request; times in seconds since the first request was sent."""

    page: str
    sent: float
    took: float
    status: int


# -- the servers ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def redis_server(folder: str) -> t.Iterator[tuple[int, subprocess.Popen[str]]]:
    port = free_port()
    words = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
    with subprocess.Popen([valkey_program(), *words], stdout=subprocess.PIPE, text=True) as process:
        try:
            wait_until_ready(process)
            yield port, process
        finally:
            process.kill()


@contextlib.contextmanager
def gunicorn(package: Path, store: str, log: t.IO[str]) -> t.Iterator[int]:
    port, path = free_port(), f"{package}:{Path(__file__).parent}"
    words = ["--bind", f"127.0.0.1:{port}", "--workers", str(PROCESSES), "--threads", str(THREADS), "--timeout=120"]
    command = [sys.executable, "-m", "gunicorn", *words, "--no-control-socket", "outage_app:make_app()"]
    environment = {**os.environ, STORE: store, "PYTHONPATH": path}
    with subprocess.Popen(command, env=environment, stderr=log, cwd=Path(log.name).parent) as process:
        try:
            yield port
        finally:
            process.terminate()


# -- the visitors --------------------------------------------------------------------------------------------------


async def ask(port: int, path: str, cookie: str = "") -> tuple[int, str]:
    """The status and the session's cookie; status 0 without an answer."""
    try:
        async with asyncio.timeout(PATIENCE):
            answer = await exchange(port, path, cookie)
    except OSError:  # TimeoutError is one
        return 0, cookie
    lines = answer.splitlines() or ["HTTP/1.1 0"]
    found = next((line.partition(": ")[2] for line in lines if line.lower().startswith("set-cookie: session=")), cookie)
    return int(lines[0].split()[1]), found.partition(";")[0]


async def exchange(port: int, path: str, cookie: str) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n".encode())
        return (await reader.read()).decode("latin-1")
    finally:
        writer.close()


class Visits:
    """Requests at fixed times, and what came of them."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.answers: list[Answer] = []
        self.cookies: list[str] = []
        self.began = time.monotonic()

    async def prepare(self) -> None:
        while (await ask(self.port, "/health"))[0] != 200:  # noqa: ASYNC110  - another process does not set an event
            await asyncio.sleep(0.1)
        self.cookies = [(await ask(self.port, "/count"))[1] for _ in range(VISITORS)]
        self.began = time.monotonic()

    async def send(self, path: str, a_second: int, seconds: float) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(int(a_second * seconds)):
                await asyncio.sleep(max(self.began + number / a_second - time.monotonic(), 0))
                group.create_task(self._one(path, self.cookies[number % VISITORS]))

    async def _one(self, path: str, cookie: str) -> None:
        sent = time.monotonic()
        status, _ = await ask(self.port, path, cookie)
        self.answers.append(Answer(path, sent - self.began, time.monotonic() - sent, status))


async def visit(port: int, redis: subprocess.Popen[str], options: argparse.Namespace) -> list[Answer]:
    visits = Visits(port)
    await visits.prepare()
    total = options.before + options.hang + options.after
    async with asyncio.TaskGroup() as group:
        group.create_task(visits.send("/count", 50, total))
        group.create_task(visits.send("/health", 10, total))
        await asyncio.sleep(options.before)
        redis.send_signal(signal.SIGSTOP)
        await asyncio.sleep(options.hang)
        redis.send_signal(signal.SIGCONT)
    return visits.answers


# -- the figures ---------------------------------------------------------------------------------------------------


def report(answers: list[Answer], options: argparse.Namespace) -> None:
    stops, resumes = options.before, options.before + options.hang
    known = stops + 5  # by then each process has met two time-outs
    spans = [
        ("before", 0.0, stops),
        ("the first 5 s", stops, known),
        ("the rest of the outage", known, resumes),
        ("after", resumes, resumes + options.after),
    ]
    for page in ("/count", "/health"):
        for name, start, end in spans:
            found = [answer for answer in answers if answer.page == page and start <= answer.sent < end]
            if found:
                print(f"{page:8}{name:24}{figures(found)}")
    waits = [answer for answer in answers if answer.page == "/count" and answer.sent >= resumes]
    bad = [answer.sent + answer.took for answer in waits if answer.status != 200]
    print(f"the last failure ended {max(bad) - resumes:.2f} s after SIGCONT" if bad else "no failure after SIGCONT")


def figures(answers: list[Answer]) -> str:
    took = sorted(answer.took for answer in answers)
    statuses = {status: sum(a.status == status for a in answers) for status in sorted({a.status for a in answers})}
    at = [took[min(int(len(took) * part), len(took) - 1)] for part in (0.5, 0.9, 0.99)]
    return f"{statuses!s:24} median {at[0]:7.3f}  90 % {at[1]:7.3f}  99 % {at[2]:7.3f}  worst {took[-1]:7.3f} s"


def main() -> None:
    parser = argparse.ArgumentParser("python -m bench.outage", description=__doc__.partition("\n")[0])
    parser.add_argument("--package", type=Path, default=Path.cwd(), help="the folder with the package")
    parser.add_argument("--before", type=float, default=5)
    parser.add_argument("--hang", type=float, default=30)
    parser.add_argument("--after", type=float, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("w") as log:
        with (
            redis_server(folder) as (redis_port, redis),
            gunicorn(options.package.resolve(), f"redis://127.0.0.1:{redis_port}/0", log) as port,
        ):
            answers = asyncio.run(visit(port, redis, options))
        print((Path(folder) / "log").read_text().count("\n"), "lines in the log")
    report(answers, options)


if __name__ == "__main__":
    main()
