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
import weakref
from pathlib import Path

from ...errors import ConfigurationError, StoreUnavailable

#: How many locks there are.
LOCKS = 64

_PATIENCE = 2.0  # seconds for a lock; an exchange takes a fraction of a millisecond
_FIRST_PAUSE, _LONGEST_PAUSE = (
    0.0005,
    0.002,
)  # seconds; if pauses grew further, the longest waiter would ask least often
# A file need not be open for writing to be locked, so an existing file can be locked on a read-only file system too.
_FLAGS = os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC

#: A lock that is held: the process, the lock's number, the descriptor.
Held = tuple[int, int, int]


class Locks:
    """A fixed set of locks between all threads and processes.

    A lock belongs to an open file description. Threads that share it, and a process and its children, do not exclude
    each other. So each holder opens a descriptor of its own. An idle descriptor is kept under its process id, which a
    child does not have, however it was forked: not every server calls the hooks of ``os.register_at_fork``.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._idle: dict[tuple[int, int], int] = {}
        weakref.finalize(self, _close_all, self._idle)

    def acquire(self, number: int) -> Held:
        """Take a lock.

        :raises StoreUnavailable: if others kept it for two seconds.
        """
        process = os.getpid()
        while True:
            descriptor = self._idle.pop((process, number), None)
            if descriptor is None:
                descriptor = self._open(number)
            try:
                _lock(descriptor, number)
                if self._is_current(descriptor, number):
                    return process, number, descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def release(self, held: Held) -> None:
        """Give a lock back, and keep one idle descriptor of its file."""
        process, number, descriptor = held
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        if self._idle.setdefault((process, number), descriptor) != descriptor:
            os.close(descriptor)

    def _open(self, number: int) -> int:
        _make_folder(self._root)
        return os.open(self._path(number), _FLAGS, 0o600)

    def _is_current(self, descriptor: int, number: int) -> bool:
        """Whether the lock's file is still in the folder. If the folder was removed, others lock another file."""
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(descriptor), os.stat(self._path(number)))
        return False

    def _path(self, number: int) -> str:
        return f"{self._root}/.locks/{number:02x}"


def _close_all(idle: dict[tuple[int, int], int]) -> None:
    while idle:
        (process, _), descriptor = idle.popitem()
        if process == os.getpid():
            with contextlib.suppress(OSError):
                os.close(descriptor)


def _lock(descriptor: int, number: int) -> None:
    if _locked(descriptor):
        return
    # The slept time is also counted separately, since a test may have stopped the clock.
    begun, slept, pause = time.monotonic(), 0.0, _FIRST_PAUSE
    while not _locked(descriptor):
        if max(slept, time.monotonic() - begun) >= _PATIENCE:
            raise StoreUnavailable(
                f"another process has locked the session folder's .locks/{number:02x} for more than {_PATIENCE:g} s"
            )
        span = random.uniform(pause / 2, pause)  # noqa: S311  - not used for security
        time.sleep(span)
        slept += span
        pause = min(pause * 1.5, _LONGEST_PAUSE)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


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


def _make_folder(root: str) -> None:
    with contextlib.suppress(FileExistsError):
        Path(root).mkdir(0o700, parents=True)
    check_folder(root)
    Path(root, ".locks").mkdir(0o700, exist_ok=True)
