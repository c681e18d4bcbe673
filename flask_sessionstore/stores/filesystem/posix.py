"""For FileSystemStore: what Linux, macOS and other POSIX systems do."""

from __future__ import annotations

import fcntl
import os
import pwd
import stat


def try_lock(descriptor: int) -> bool:
    """Lock an open file; False if another open file of this name is locked."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unlock(descriptor: int) -> None:
    """Give a lock back. A child that was forked meanwhile has the file open too, so to close it would not be enough."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)


def open_file(path: str, flags: int) -> int:
    """Open a file; a new one can be read only by its owner."""
    return os.open(path, flags, 0o600)


def replace(source: str, target: str) -> None:
    """Rename a file, even if there is one with the new name."""
    os.replace(source, target)


def remove(path: str) -> None:
    """Remove a file."""
    os.unlink(path)


def stranger(path: str) -> str | None:
    """The user to whom a file belongs, if it is not the user of this process."""
    owner = os.stat(path).st_uid
    return None if owner == os.geteuid() else _user_name(owner)


def refusal(folder: os.stat_result) -> str | None:
    """Why a folder is not for this process's user alone; None if it is. Root counts as another user."""
    if folder.st_uid != os.geteuid():
        owner = _user_name(folder.st_uid)
        return (
            f"belongs to {owner}, and this process runs as {_user_name(os.geteuid())}: run commands as its owner"
            f" (sudo -u {owner} flask sessions ...), and give an application of another user a folder of its own"
        )
    if stat.S_IMODE(folder.st_mode) & 0o022:
        return "can be written by other users: allow only the application's user (chmod 700)"
    return None


def _user_name(number: int) -> str:
    """The name of a user; for a user without a name ``#`` and the number, as ``sudo -u`` takes it."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"#{number}"
