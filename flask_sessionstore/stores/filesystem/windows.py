"""For FileSystemStore: what Windows does.

A file that is open anywhere can be neither renamed nor removed there, and not opened meanwhile: PermissionError. Our
own readers have it open for less than a millisecond, a virus scanner for longer. So each such call is tried again for a
while, and PermissionError never means what it means elsewhere, that the file is another user's.

Who may use the folder is left to its rights: a folder that Python 3.12.4 or newer makes with mode 0700 is for its user
alone, and what is made in it inherits that.
"""

from __future__ import annotations

import errno
import importlib
import os
import typing as t

from .waiting import pauses

R = t.TypeVar("R")


def try_lock(descriptor: int) -> bool:
    """Lock an open file, by its first byte, which need not exist; False if another open file of this name is locked."""
    try:
        _locking(descriptor, "LK_NBLCK")
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EDEADLK):
            return False
        raise
    return True


def unlock(descriptor: int) -> None:
    """Give a lock back. Windows would do so some time after the file is closed."""
    _locking(descriptor, "LK_UNLCK")


def open_file(path: str, flags: int) -> int:
    """Open a file, whose bytes are not to be taken for text."""
    return _patiently(os.open, path, flags | t.cast("int", getattr(os, "O_BINARY", 0)))


def replace(source: str, target: str) -> None:
    """Rename a file, even if there is one with the new name."""
    _patiently(os.replace, source, target)


def remove(path: str) -> None:
    """Remove a file."""
    _patiently(os.unlink, path)


def stranger(path: str) -> str | None:  # noqa: ARG001  - as on POSIX
    """Nobody: Python does not tell the owner of a file here."""
    return None


def refusal(folder: os.stat_result) -> str | None:  # noqa: ARG001
    """None: nor does it tell who may write to a folder."""
    return None


def _locking(descriptor: int, mode: str) -> None:
    msvcrt: t.Any = importlib.import_module("msvcrt")  # type checkers elsewhere do not know what is in it
    msvcrt.locking(descriptor, getattr(msvcrt, mode), 1)


def _patiently(call: t.Callable[..., R], *args: t.Any) -> R:
    """Call, again and again while the file is in use.

    :raises OSError: EBUSY, if it was in use for two seconds.
    """
    try:
        return call(*args)
    except PermissionError:
        pass
    for _ in pauses():
        try:
            return call(*args)
        except PermissionError:
            continue
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
