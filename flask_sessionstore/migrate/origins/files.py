"""Reads the files of cachelib's FileSystemCache: four bytes of expiry, and then a pickle, in every version."""

from __future__ import annotations

import hashlib
import struct
import typing as t
from pathlib import Path

from ...errors import SessionCorrupt, StoreUnavailable, UnsupportedByStore
from ...stores.places import is_there
from ..contents import MAX_SIZE
from . import Found

_EXPIRY = struct.Struct("I")  # in the machine's byte order
_NEVER = 0


class Files:
    """One file for each name. The file's name is a hash: SHA-256 since cachelib 0.16, MD5 before.

    :param folder: SESSION_FILE_DIR. A folder that does not exist has no sessions.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    def read(self, name: str, now: float) -> Found | None:
        """The content of the file; if both hashes have a file, of the newer version's."""
        for path in self._paths(name):
            data = _read(path)
            if data is not None:
                return _found(data)
        return None

    def remove(self, name: str) -> None:
        """Remove the files of both hashes."""
        for path in self._paths(name):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise _unavailable() from error

    def scan(self, prefix: str, now: float) -> t.Iterator[tuple[str, Found]]:
        """Not possible, since a file's name does not tell the session's id."""
        raise UnsupportedByStore(
            "the files of FileSystemCache do not tell the ids of their sessions: each session is imported when its"
            " visitor comes"
        )

    def missing(self) -> str | None:
        """The folder, if it does not exist."""
        return None if is_there(self._folder) else f"the folder {self._folder.absolute()} does not exist"

    def _paths(self, name: str) -> list[Path]:
        encoded = name.encode()
        hashes = (hashlib.sha256(encoded), hashlib.md5(encoded, usedforsecurity=False))
        return [self._folder / one.hexdigest() for one in hashes]


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(_EXPIRY.size + MAX_SIZE + 1)  # one more, to notice a file that is too large
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unavailable() from error


def _found(data: bytes) -> Found:
    if len(data) < _EXPIRY.size:
        raise SessionCorrupt("its file is cut off", newer=False)
    (end,) = _EXPIRY.unpack_from(data)
    return Found(data[_EXPIRY.size :], None if end == _NEVER else float(end))


def _unavailable() -> StoreUnavailable:
    return StoreUnavailable("the files of the old sessions cannot be read or removed")
