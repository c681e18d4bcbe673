"""For FileSystemStore: checks that its folder belongs only to the application, and the locks in it."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

from ...errors import ConfigurationError, StoreUnavailable
from . import system
from .waiting import PATIENCE, pauses

#: How many locks there are.
LOCKS = 64
#: How many folders the records are spread over, by the first two digits of their handles.
FOLDERS = 256

# A file need not be open for writing to be locked, so an existing file can be locked on a read-only file system too.
_FLAGS = os.O_RDONLY | os.O_CREAT


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
        for _ in pauses():
            held = self._try(number)
            if held is not None:
                return held
        raise StoreUnavailable(
            f"another process has locked the session folder's .locks/{number:02x} for more than {PATIENCE:g} s"
        )

    def release(self, held: int) -> None:
        """Give a lock back."""
        try:
            system.unlock(held)
        finally:
            os.close(held)

    def _try(self, number: int) -> int | None:
        """Take a lock if it is free."""
        descriptor = self._open(f"{self._root}/.locks/{number:02x}")
        is_ours = False
        try:
            is_ours = system.try_lock(descriptor)
        finally:
            if not is_ours:
                os.close(descriptor)
        return descriptor if is_ours else None

    def _open(self, path: str) -> int:
        try:
            return system.open_file(path, _FLAGS)
        except FileNotFoundError:
            make_folder(self._root)
            return system.open_file(path, _FLAGS)


def check_folder(root: str) -> None:
    """Refuse a folder in which other users can write: they could plant sessions, or leave files that we cannot read.

    Root counts as another user. Windows does not tell who may write to a folder, so there only links are refused.

    :raises ConfigurationError: if the folder belongs to another user, others can write to it, or it is a link.
    :raises OSError: if there is no such folder.
    """
    status = os.lstat(root)
    if stat.S_ISLNK(status.st_mode):
        target = os.path.realpath(root)
        raise _refused(root, f"is a symbolic link: name the folder that it points to, {Path(target).as_uri()}")
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), root)
    why = system.refusal(status)
    if why is not None:
        raise _refused_here(root, why)


def _refused_here(root: str, why: str) -> ConfigurationError:
    if os.path.ismount(root):
        below = Path(root, "sessions").as_uri()
        why += f'. It is a mount point: use a folder below it, which will be created: SESSION_STORE = "{below}"'
    return _refused(root, why)


def _refused(root: str, why: str) -> ConfigurationError:
    return ConfigurationError(f"the session folder {root} {why}", key="SESSION_STORE")


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
    descriptor = system.open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)
