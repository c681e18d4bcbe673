"""For FileSystemStore: whose sessions are whose.

::

    .owners/
      9f/                    fan-out by the first two digits of the folder below
        9f86d0...            a folder for each owner: the first 32 digits of the owner's SHA-256
          session%3Aa7...    an empty file for each session, named as its record; its time is when it was filed

A folder goes with its last file. Who is about to file into one that has just gone makes it anew. What has another name
here, or is no folder or file where one belongs, is somebody else's: it is left alone.
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

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
_NS = 1_000_000  # nanoseconds in a millisecond
_FAN, _FOLDER = re.compile("[0-9a-f]{2}"), re.compile("[0-9a-f]{32}")
# A folder that goes each time it was made is not one that others tidy up.
_TRIES = 100


class OwnerFolders:
    """The folders of all owners. What the operating system says is not translated here.

    :param root: the store's folder.
    :param name: the beginning of file names, which tells this store's files from those of others in the same folder.
    """

    def __init__(self, root: str, name: str) -> None:
        self._root = Path(root, ".owners")
        self._name = name

    def folder(self, owner: str) -> Path:
        """Where the sessions of ``owner`` are filed. (An owner's text may be too long for a name, or hold a slash.)"""
        name = list_name(owner)
        return self._root / name[:2] / name

    def file(self, folder: Path, handle: str, ms: int) -> None:
        """Enter a handle, or renew the time of its entry."""
        descriptor = self._open(folder, handle)
        try:
            os.utime(descriptor, ns=(ms * _NS, ms * _NS))
        finally:
            os.close(descriptor)

    def filed_ms(self, folder: Path, handle: str) -> int | None:
        """When a handle was filed; None if it is not."""
        try:
            found = os.lstat(folder / (self._name + handle))
        except FileNotFoundError:
            return None
        return found.st_mtime_ns // _NS if stat.S_ISREG(found.st_mode) else None

    def unfile(self, folder: Path, handle: str) -> None:
        """Remove an entry, if it is there, and the folder, if it was the last."""
        (folder / (self._name + handle)).unlink(missing_ok=True)
        self.tidy(folder)

    def tidy(self, folder: Path) -> None:
        """Remove a folder if nothing is in it."""
        with contextlib.suppress(OSError):
            folder.rmdir()

    def handles(self, folder: Path) -> list[str]:
        """What is filed in a folder, by this store.

        :raises NotADirectoryError: if something else stands in its place.
        """
        names = [path.name for path in _listed(folder)]
        found = [name.removeprefix(self._name) for name in names if name.startswith(self._name)]
        return [handle for handle in found if is_handle(handle)]

    def folders(self) -> t.Iterator[Path]:
        """The folders of all owners."""
        for fan in _folders(self._root, _FAN):
            yield from _folders(fan, _FOLDER)

    def is_foreign(self, folder: Path) -> bool:
        """Whether something else stands in the place of an owner's folder."""
        try:
            return not stat.S_ISDIR(folder.stat().st_mode)
        except OSError:
            return False  # nothing, or what is said where it is used

    def _open(self, folder: Path, handle: str, tries: int = _TRIES) -> int:
        try:
            return os.open(folder / (self._name + handle), _FLAGS, 0o600)
        except FileNotFoundError:
            if not tries:
                raise
        for path in (self._root, folder.parent, folder):
            with contextlib.suppress(FileExistsError, FileNotFoundError):
                path.mkdir(0o700)
        return self._open(folder, handle, tries - 1)


def _folders(folder: Path, name: re.Pattern[str]) -> list[Path]:
    return [path for path in _listed(folder) if name.fullmatch(path.name) and path.is_dir()]


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []
