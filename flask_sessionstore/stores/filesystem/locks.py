"""For FileSystemStore: checks that its folder belongs only to the application, and the locks in it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pwd
import random
import stat
import time
import typing as t
from pathlib import Path

from ...errors import ConfigurationError, StoreUnavailable

#: How many locks there are.
LOCKS = 64
#: How many folders the records are spread over, by the first two digits of their handles.
FOLDERS = 256

_PATIENCE = 2.0  # seconds for a lock; an exchange takes a fraction of a millisecond
# Seconds. If pauses grew further, the longest waiter would ask least often.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.0005, 0.002
# A file need not be open for writing to be locked, so an existing file can be locked on a read-only file system too.
_FLAGS = os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC


class Locks:
    """A fixed set of locks between all threads and processes.

    A lock belongs to an open file, and is held only for one exchange. Each holder opens the file anew: so the threads
    of a process exclude each other, nothing is kept that a fork would share, and nobody waits for a lock whose file was
    removed with the folder.
    """

    def __init__(self, root: str) -> None:
        self._root = root

    def acquire(self, number: int) -> int:
        """Take a lock, and return the descriptor that holds it.

        :raises StoreUnavailable: if others kept it for two seconds.
        """
        held = self._try(number)
        if held is not None:
            return held
        for _ in _pauses():
            held = self._try(number)
            if held is not None:
                return held
        raise StoreUnavailable(
            f"another process has locked the session folder's .locks/{number:02x} for more than {_PATIENCE:g} s"
        )

    def release(self, held: int) -> None:
        """Give a lock back. A child that was forked meanwhile has the file open too, so to close it is not enough."""
        try:
            fcntl.flock(held, fcntl.LOCK_UN)
        finally:
            os.close(held)

    def _try(self, number: int) -> int | None:
        """Take a lock if it is free."""
        descriptor = self._open(f"{self._root}/.locks/{number:02x}")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _open(self, path: str) -> int:
        try:
            return os.open(path, _FLAGS, 0o600)
        except FileNotFoundError:
            make_folder(self._root)
            return os.open(path, _FLAGS, 0o600)


def _pauses() -> t.Iterator[None]:
    """Waits a moment before each next step, until it has waited for long enough."""
    # The slept time is also counted separately, since a test may have stopped the clock.
    begun, slept, pause = time.monotonic(), 0.0, _FIRST_PAUSE
    while max(slept, time.monotonic() - begun) < _PATIENCE:
        span = random.uniform(pause / 2, pause)  # noqa: S311  - not used for security
        time.sleep(span)
        slept += span
        pause = min(pause * 1.5, _LONGEST_PAUSE)
        yield


def check_folder(root: str) -> None:
    """Refuse a folder in which other users can write: they could plant sessions, or leave files that we cannot read.

    Root counts as another user.

    :raises ConfigurationError: if the folder belongs to another user, others can write to it, or it is a link.
    :raises OSError: if there is no such folder.
    """
    status = os.lstat(root)
    if stat.S_ISLNK(status.st_mode):
        target = os.path.realpath(root)
        raise _refused(f"is a symbolic link: name the folder that it points to, {Path(target).as_uri()}")
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), root)
    if status.st_uid != os.geteuid():
        owner = user_name(status.st_uid)
        raise _refused(
            f"belongs to {owner}, and this process runs as {user_name(os.geteuid())}: run commands as its owner"
            f" (sudo -u {owner} flask sessions ...), and give an application of another user a folder of its own",
            root,
        )
    if stat.S_IMODE(status.st_mode) & 0o022:
        raise _refused("can be written by other users: allow only the application's user (chmod 700)", root)


def user_name(number: int) -> str:
    """The name of a user; for a user without a name ``#`` and the number, as ``sudo -u`` takes it."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"#{number}"


def _refused(why: str, root: str | None = None) -> ConfigurationError:
    if root is not None and os.path.ismount(root):
        below = Path(root, "sessions").as_uri()
        why += f'. It is a mount point: use a folder below it, which will be created: SESSION_STORE = "{below}"'
    return ConfigurationError(f"the session folder {why}", key="SESSION_STORE")


def make_folder(root: str) -> None:
    """Make the store's folder, and all folders in it that a new session needs.

    :raises ConfigurationError: as :func:`check_folder` does.
    """
    with contextlib.suppress(FileExistsError):
        Path(root).mkdir(0o700, parents=True)
    check_folder(root)
    with contextlib.suppress(FileExistsError):
        _make_file(f"{root}/.gitignore", b"*\n")
    for name in (*(f"{number:02x}" for number in range(FOLDERS)), ".locks"):
        with contextlib.suppress(FileExistsError):
            os.mkdir(f"{root}/{name}", 0o700)


def _make_file(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)
