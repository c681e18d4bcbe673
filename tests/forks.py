"""Children of the test's process: forked in C, as uWSGI does it, and other users."""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import sys
import typing as t

import pytest

if sys.platform == "win32":
    pytest.skip("forks need a POSIX system", allow_module_level=True)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")

NOBODY = pwd.getpwnam("nobody")


class Child:
    """A forked child that makes one call and is gone. Python's own hooks for a fork are not called.

    It has imported what its parent has, and may be unable to import more.

    :param user: who it is to be.
    """

    def __init__(self, call: t.Callable[[], object], *, user: pwd.struct_passwd | None = None) -> None:
        self._pipe, pipe = os.pipe()
        self.pid: int = ctypes.PyDLL(None).fork()
        if self.pid == 0:
            _make_call(call, pipe, user)
        os.close(pipe)

    def answer(self) -> str:
        """What the call returned, or its error, when it is done."""
        with os.fdopen(self._pipe, "rb") as pipe:
            answer = pipe.read()
        os.waitpid(self.pid, 0)
        return answer.decode()

    def wait_until_stopped(self) -> None:
        """Until it has stopped itself (SIGSTOP)."""
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)

    def kill(self) -> None:
        """End it now."""
        os.kill(self.pid, signal.SIGKILL)
        self.answer()


def as_nobody(call: t.Callable[[], object]) -> str:
    """What a call returns, or its error, in a process of another user who may do little."""
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
