"""For FileSystemStore: the lists of each owner's sessions.

::

    .owners/
      9f/                    fan-out by the first two digits of the folder below
        9f86d0...            a folder for each owner: the first 32 digits of the owner's SHA-256
          session%3Aa7...    an empty file for each session, named like its record; its mtime is when it was filed

A folder is removed with its last file. A process that is about to file into a folder that was just removed makes it
again. Anything with another name, or of another type than is expected there, is foreign, and is left alone.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import typing as t
from pathlib import Path

from ...key import is_handle
from ..abilities import list_name
from . import system

_FLAGS = os.O_WRONLY | os.O_CREAT
_NS = 1_000_000  # nanoseconds in a millisecond
_FAN, _FOLDER = re.compile("[0-9a-f]{2}"), re.compile("[0-9a-f]{32}")
# A folder that disappears this often after it was made is not only being tidied up by other processes.
_TRIES = 100


class OwnerFolders:
    """The folders of all owners. Raises the operating system's errors as they are.

    :param root: the store's folder.
    :param name: how file names begin. It tells this store's files from the files of other stores in the same folder.
    """

    def __init__(self, root: str, name: str) -> None:
        self._root = Path(root, ".owners")
        self._name = name

    def folder(self, owner: str) -> Path:
        """The folder where the sessions of ``owner`` are filed.

        Its name is a hash, since an owner's text may be too long for a name, or contain a slash.
        """
        name = list_name(owner)
        return self._root / name[:2] / name

    def file(self, folder: Path, handle: str, ms: int) -> bool:
        """Add a handle, or renew the time of its entry; return whether it is new."""
        path = folder / (self._name + handle)
        is_new = not path.exists()
        self._touch(path, ms)
        return is_new

    def filed_ms(self, folder: Path, handle: str) -> int | None:
        """When a handle was filed, in milliseconds since 1970; None if it is not filed."""
        try:
            found = os.lstat(folder / (self._name + handle))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found.st_mtime_ns // _NS if stat.S_ISREG(found.st_mode) else None

    def unfile(self, folder: Path, handle: str) -> None:
        """Remove an entry, if it exists; and the folder, if that was its last entry."""
        (folder / (self._name + handle)).unlink(missing_ok=True)
        self.tidy(folder)

    def tidy(self, folder: Path) -> None:
        """Remove a folder if it is empty."""
        with contextlib.suppress(OSError):
            folder.rmdir()

    def handles(self, folder: Path) -> list[str]:
        """The handles that this store has filed in a folder.

        :raises NotADirectoryError: if there is something else than a folder.
        """
        names = [path.name for path in _listed(folder)]
        found = [name.removeprefix(self._name) for name in names if name.startswith(self._name)]
        return [handle for handle in found if is_handle(handle)]

    def folders(self) -> t.Iterator[Path]:
        """The folders of all owners."""
        for fan in _folders(self._root, _FAN):
            yield from _folders(fan, _FOLDER)

    def is_foreign(self, folder: Path) -> bool:
        """Whether there is something else than a folder in the place of an owner's folder."""
        try:
            return not stat.S_ISDIR(folder.stat().st_mode)
        except OSError:
            return False  # there is nothing, or the next operation raises the error

    def _touch(self, path: Path, ms: int, tries: int = _TRIES) -> None:
        try:
            os.close(system.open_file(str(path), _FLAGS))
            os.utime(path, ns=(ms * _NS, ms * _NS))
            return
        except FileNotFoundError:
            if not tries:
                raise
        for folder in (self._root, path.parent.parent, path.parent):
            with contextlib.suppress(FileExistsError, FileNotFoundError):
                folder.mkdir(0o700)
        self._touch(path, ms, tries - 1)


def _folders(folder: Path, name: re.Pattern[str]) -> list[Path]:
    return [path for path in _listed(folder) if name.fullmatch(path.name) and path.is_dir()]


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []
