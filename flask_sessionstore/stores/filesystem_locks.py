"""For FileSystemStore: its folder, which has to be the application's alone, and the locks in it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import threading
from pathlib import Path

from ..errors import ConfigurationError

#: How many locks there are.
LOCKS = 64


class Locks:
    """A fixed set of locks between threads and processes.

    Made anew in a child process: an inherited descriptor shares the parent's lock.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._threads = [threading.Lock() for _ in range(LOCKS)]
        self._files: dict[int, int] = {}

    def acquire(self, number: int) -> None:
        self._threads[number].acquire()
        try:
            descriptor = self._files.get(number)
            if descriptor is None or not os.fstat(descriptor).st_nlink:  # not open yet, or the folder was removed
                descriptor = self._open(number)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except BaseException:
            self._threads[number].release()
            raise

    def release(self, number: int) -> None:
        fcntl.flock(self._files[number], fcntl.LOCK_UN)
        self._threads[number].release()

    def _open(self, number: int) -> int:
        _make_folder(self._root)
        if number in self._files:
            os.close(self._files.pop(number))
        path = f"{self._root}/.locks/{number:02x}"
        descriptor = self._files[number] = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return descriptor

    def __del__(self) -> None:
        for descriptor in self._files.values():
            with contextlib.suppress(OSError):
                os.close(descriptor)


def check_folder(root: str) -> None:
    """A folder in which others can write is one in which others can plant sessions.

    :raises ConfigurationError: if it is.
    """
    status = Path(root).stat()
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), root)
    if status.st_uid != os.geteuid() and os.geteuid() != 0:
        raise ConfigurationError("the session folder belongs to another user", key="SESSION_STORE")
    if stat.S_IMODE(status.st_mode) & 0o022:
        raise ConfigurationError(
            "the session folder can be written by others: give it to the application alone (chmod 700)",
            key="SESSION_STORE",
        )


def _make_folder(root: str) -> None:
    Path(root).mkdir(0o700, parents=True, exist_ok=True)
    check_folder(root)
    Path(root, ".locks").mkdir(0o700, exist_ok=True)
