"""Children of the test's process: forked in C, as uWSGI does it, or by Python, and other users."""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import sys
import time
import typing as t
import warnings
from pathlib import Path

import pytest

if sys.platform == "win32":
    pytest.skip("forks need a POSIX system", allow_module_level=True)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")

NOBODY = pwd.getpwnam("nobody")


Fork = t.Callable[[], int]


def fork_in_c() -> int:
    """Fork as a server in C does it: Python's hooks for a fork are not called.

    In such a child Python itself may hang, if the parent had threads and the child starts threads too.
    """
    interval = sys.getswitchinterval()
    # If another thread asked for the interpreter just now, the child would wait for it for ever: it has no copy.
    sys.setswitchinterval(60)
    try:
        time.sleep(2 * interval)  # threads that wait already are served by the former interval
        child: int = ctypes.PyDLL(None).fork()
        return child
    finally:
        sys.setswitchinterval(interval)


#: A function that forks the process.
FORKS = [pytest.param(os.fork, id="os.fork"), pytest.param(fork_in_c, id="fork in C")]


class Child:
    """A forked child. It makes one call and exits.

    It has imported what its parent has, and may be unable to import more.

    :param user: the user id that the child takes.
    """

    def __init__(
        self, call: t.Callable[[], object], *, user: pwd.struct_passwd | None = None, fork: Fork = fork_in_c
    ) -> None:
        self._pipe, pipe = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of a fork in a process with threads
            self.pid = fork()
        if self.pid == 0:
            _make_call(call, pipe, user)
        os.close(pipe)

    def answer(self) -> str:
        """Wait for the call; return its result, or its error."""
        with os.fdopen(self._pipe, "rb") as pipe:
            answer = pipe.read()
        os.waitpid(self.pid, 0)
        return answer.decode()

    def wait_until_stopped(self) -> None:
        """Wait until the child has stopped itself (SIGSTOP)."""
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)

    def kill(self) -> None:
        """End it now."""
        os.kill(self.pid, signal.SIGKILL)
        self.answer()


def in_a_child(
    work: t.Callable[[], object], fork: Fork = os.fork, meanwhile: t.Callable[[], object] = lambda: None
) -> str:
    """ "done", or the error of ``work`` in a child; warnings are errors there.

    :param meanwhile: what the parent does at the same time.
    """

    def call() -> str:
        warnings.simplefilter("error")
        work()
        return "done"

    child = Child(call, fork=fork)
    meanwhile()
    return child.answer()


def as_nobody(call: t.Callable[[], object]) -> str:
    """Make a call in a process of the user nobody; return its result, or its error."""
    return Child(call, user=NOBODY).answer()


def _make_call(call: t.Callable[[], object], pipe: int, user: pwd.struct_passwd | None) -> t.NoReturn:
    # Whatever happens, nothing of pytest may run in the child.
    try:
        if user is not None:
            os.setgroups([])
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
        answer = str(call())
    except BaseException as error:  # noqa: BLE001  - it is the answer
        answer = f"{type(error).__name__}: {error}"
    try:
        os.write(pipe, answer.encode())
    finally:
        os._exit(0)


def let_others_pass(folder: Path) -> None:
    """Let every user reach what is in this folder: open it, and those that it is in as far as they are closed."""
    for each in (folder, *folder.parents):
        if each.stat().st_mode & 0o001:
            break
        each.chmod(0o711)
