"""FileSystemStore: one file for each session. The default.

::

    sessions/               0700
      .gitignore            for all that is here
      .locks/00 ... 3f      a fixed set, locked around every write
      .owners/              the lists of each owner's sessions: see owners.py
      00/ ... ff/           fan-out by the first two digits of the handle, made together
        session%3Aff...     the record, 0600
        session%3Aff...+    the spare, or
        session%3Aff...~    the spare

A record is exchanged under its lock: the new record is written into the spare; the old record is renamed to the third
name, where it is the next spare; and the new record is renamed to the record's name. To rename a temporary file over
the record would be simpler. But then ext4 flushes the file to the disk (``auto_da_alloc``), and every write takes and
frees an inode. As ext4 does not use a freed inode again for minutes, each write on a busy folder would search through
thousands of them. (Linux could exchange two names in one step, but Python has no function for it, and other systems
would still need the two renames.) A file that is being written is empty, or has a zero as its first byte. A reader that
finds such a file, or no file, reads again under the lock.

Two spares without a record exist only between the two renames. If a reader finds them under the lock, a writer was
killed there, and its exchange is finished. One spare without a record means that somebody removed the record by hand,
and with it the session.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import random
import typing as t
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from urllib.parse import quote, urlsplit
from urllib.request import url2pathname

from ...errors import ConfigurationError, SessionCorrupt, StoreError, StoreFull, StoreUnavailable
from ...key import is_handle
from ...layout import HEAD_SIZE, HEADER_SIZE, TIMES, is_tombstone, may_replace, owner_in
from ...record import TOMBSTONE_TIME
from ..abilities import has_doubled
from ..base import Entry, OwnerIndex, Scans, ServerSideStore, Sweeps, has_expired, has_left
from ..exposure import network_risk
from ..places import nearest, temporary_risk, try_to_make_in
from . import system
from .locks import FOLDERS, LOCKS, Locks, check_folder
from .owners import OwnerFolders

logger = logging.getLogger("flask_sessionstore")

_SPARES = ("+", "~")
_TAKEN = b"\0"  # the first byte of a file that is being written
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# File systems allow 255 bytes for a name; 64 are the handle's, and 1 is for the suffix of a spare.
_LONGEST_NAME = 255 - 64 - 1
# Bytes that one os.read asks for: nearly every session fits.
_CHUNK = 64 * 1024
# A sweep that may remove some files looks at so many times more, and so takes a few milliseconds at most.
_MOST_LOOKED_AT = 4


class FileSystemStore(ServerSideStore, Sweeps, Scans, OwnerIndex):
    """Sessions as files in a folder of this machine, shared by all its processes.

    Expired files stay until a sweep or :meth:`delete_expired` removes them. Not for network file systems, since
    their locks are not reliable.

    :param path: the folder. It is made at first use, accessible only to its owner.
    :raises ConfigurationError: if the prefix is too long for the names of files.
    """

    def __init__(self, path: str | os.PathLike[str], *, prefix: str = "session:") -> None:
        super().__init__(prefix=prefix)
        self.path = Path(path).absolute()
        """The folder."""
        self._root = str(self.path)
        self._name = quote(prefix, safe="")
        if len(self._name) > _LONGEST_NAME:
            raise ConfigurationError(
                f"SESSION_KEY_PREFIX has {len(self._name)} bytes when percent-encoded; file names have room for"
                f" {_LONGEST_NAME} bytes",
                key="SESSION_KEY_PREFIX",
            )
        self._owners = OwnerFolders(self._root, self._name)
        self._locks = Locks(self._root)
        self._checked = False
        # The folder that is swept, and what is still to be looked at there. Each process begins at a place of its own.
        self._folder: int | None = None
        self._unswept: list[str] = []

    @classmethod
    def from_url(cls, url: str, **options: t.Any) -> t.Self:
        """``file:///var/lib/app/sessions``; in SESSION_STORE also ``file:sessions``, in the instance folder."""
        parts = urlsplit(url)
        if parts.netloc not in ("", "localhost") or not parts.path or parts.query or parts.fragment:
            raise ConfigurationError(
                'SESSION_STORE: a folder\'s URL is "file:///absolute/path", or "file:path" below the instance folder',
                key="SESSION_STORE",
            )
        return cls(url2pathname(parts.path), **options)

    # -- the four primitives ---------------------------------------------------------------------------------------

    def read(self, handle: str, size: int | None = None) -> bytes | None:
        """As for every store, or only the first ``size`` bytes."""
        if not (self._checked or self._exists()):
            return None
        path = self._path(handle)
        try:
            data = _read_unlocked(path, size)
            if data is not None:
                return data
        except FileNotFoundError:
            pass
        except OSError as error:
            raise _unreadable(path, error) from error
        return self._read_again(handle, path, size)

    def add(self, handle: str, data: bytes, ttl: timedelta) -> bool:
        path = self._path(handle)
        with self._locked(handle):
            if self._create(path, data):
                return True
            if self._current(path) is not None:
                return False
            _remove(path)
            return self._create(path, data)

    def swap(self, handle: str, data: bytes, ttl: timedelta, *, replaces: bytes | None) -> bool:
        path = self._path(handle)
        if not self._exists():
            return False
        with self._locked(handle):
            head = self._current(path)
            if head is None or not may_replace(head, replaces):
                return False
            if is_tombstone(data):  # remove the spares: an ended session must not leave copies of its data
                _remove(path + _SPARES[0])
                _remove(path + _SPARES[1])
            swapped = _exchange(path, data)
            if is_tombstone(data):
                _remove(path + _SPARES[1])
            return swapped

    def drop(self, handle: str) -> None:
        path = self._path(handle)
        if not self._exists():
            return
        with self._locked(handle):
            _remove_all(path)

    def delete_expired(self, limit: int | None = None) -> int:
        removed = unreadable = 0
        now = self.now()
        for handle in self._handles() if self._exists() else ():
            if limit is not None and removed >= limit:
                break
            try:
                removed += self._has_expired(handle, now) and self._remove_expired(handle, now)
            except PermissionError:
                unreadable += 1
        if unreadable:
            logger.warning(
                "%d session files cannot be read and were not removed; they may belong to another user", unreadable
            )
        return removed

    def sweep(self, limit: int) -> bool:
        """Look at some files of one folder; once all were looked at, the next sweep looks at the next folder."""
        if not self._exists():
            return False
        now, unswept = self.now() - TOMBSTONE_TIME.total_seconds(), self._unswept or self._next_folder()
        removed = 0
        with contextlib.suppress(IndexError):  # all were looked at, perhaps by other threads
            for _ in range(_MOST_LOOKED_AT * limit):
                if removed >= limit:
                    break
                handle = unswept.pop()
                with contextlib.suppress(PermissionError):
                    removed += self._has_expired(handle, now) and self._remove_expired(handle, now)
        return bool(unswept)

    # -- owners, and all sessions ----------------------------------------------------------------------------------

    def file(self, owner: str, handle: str) -> None:
        folder = self._owners.folder(owner)
        if self._owners.is_foreign(folder):
            logger.warning("a session of an owner is not listed: %s", _no_folder(folder))
            return
        with self._locked(handle):  # so that a sweep that has just found the entry old does not remove it
            is_new = self._owners.file(folder, handle, self._now_ms())
        if is_new:
            with contextlib.suppress(StoreUnavailable):  # the session is filed; the next pruning can do the rest
                self._prune_if_doubled(folder)

    def unfile(self, owner: str, *handles: str) -> None:
        folder = self._owners.folder(owner)
        if self._exists() and not self._owners.is_foreign(folder):
            with _translating():
                for handle in handles:
                    self._owners.unfile(folder, handle)

    def entries(self, owner: str) -> list[Entry]:
        if not self._exists():
            return []
        folder = self._owners.folder(owner)
        if self._owners.is_foreign(folder):
            raise StoreUnavailable(_no_folder(folder))
        with _translating():
            filed = [(handle, self._owners.filed_ms(folder, handle)) for handle in self._owners.handles(folder)]
        return [Entry(handle, self._listed(handle, HEAD_SIZE), ms) for handle, ms in filed if ms is not None]

    def prune(self, limit: int | None = None) -> int:
        removed = 0
        for folder in self._owner_folders() if self._exists() else ():
            with _translating():
                handles = self._owners.handles(folder)
            for handle in handles:
                if limit is not None and removed >= limit:
                    return removed
                removed += self._prune(folder, handle)
            self._owners.tidy(folder)
        return removed

    def scan(self) -> t.Iterator[Entry]:
        for handle in self._handles() if self._exists() else ():
            data = self._listed(handle)
            if data is not None:
                yield Entry(handle, data)

    def missing(self) -> str | None:
        return None if self._exists() else f"the folder {self.path} does not exist"

    def probe(self) -> None:
        """As in every store; but if the folder does not exist yet, only try whether it can be made."""
        if self._exists():
            super().probe()
            return
        with _translating():
            try_to_make_in(nearest(self.path))

    def risks(self) -> list[str]:
        what = "The sessions' folder"
        return [*network_risk(what, self._root), *temporary_risk(what, self._root)]

    # -- how ------------------------------------------------------------------------------------------------------

    def _path(self, handle: str) -> str:
        return f"{self._root}/{handle[:2]}/{self._name}{handle}"

    def _create(self, path: str, data: bytes) -> bool:
        """Write a new file; False if a file of this name exists."""
        try:
            descriptor = system.open_file(path, _NEW_FILE)
        except FileExistsError:
            return False
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                os.mkdir(os.path.dirname(path), 0o700)
            descriptor = system.open_file(path, _NEW_FILE)
        _fill(descriptor, path, data)
        return True

    def _current(self, path: str) -> bytes | None:
        """The head of the record in a file; None if there is no record, or it has expired. Needs the lock."""
        head = _read_locked(path, HEADER_SIZE)
        return None if head is None or has_expired(head, self.now()) else head

    def _locked(self, handle: str) -> _Locked:
        self._exists()  # checked before anything is written
        return _Locked(self._locks, int(handle[:2], 16) % LOCKS)

    def _read_again(self, handle: str, path: str, size: int | None) -> bytes | None:
        """Read under the lock; without it if the lock's file cannot be made, since then nobody can write either."""
        try:
            with self._locked(handle):
                return _read_locked(path, size)
        except StoreUnavailable as error:
            if not isinstance(error.__cause__, OSError) or error.__cause__.errno not in _READ_ONLY:
                raise
        with _translating():
            return _read_locked(path, size)

    def _listed(self, handle: str, size: int | None = None) -> bytes | None:
        """As :meth:`read`, for lists: a file that cannot be read counts as damaged, so others can be listed."""
        try:
            return self.read(handle, size)
        except StoreError as error:
            if isinstance(error.__cause__, PermissionError):
                return b""
            raise

    def _exists(self) -> bool:
        """Whether the folder exists. Checks at the first time that it belongs only to us."""
        if not self._checked:
            try:
                check_folder(self._root)
            except FileNotFoundError:
                return False
            except OSError as error:
                raise _translated(error) from error
            self._checked = True
        return True

    def _handles(self) -> t.Iterator[str]:
        """The handles of all files, also of spares without a record. Starts at a random place, so that sweeps with a
        limit reach every file some time.
        """
        with _translating():
            folders = os.listdir(self._root)
            first = random.randrange(len(folders) or 1)  # noqa: S311  - not used for security
            for folder in folders[first:] + folders[:first]:
                if len(folder) == 2:
                    yield from self._handles_in(folder)

    def _handles_in(self, folder: str) -> list[str]:
        names = os.listdir(f"{self._root}/{folder}")
        ours = (name.removeprefix(self._name) for name in names if name.startswith(self._name))
        return sorted(filter(is_handle, {name.rstrip("".join(_SPARES)) for name in ours}))

    def _next_folder(self) -> list[str]:
        before = random.randrange(FOLDERS) if self._folder is None else self._folder  # noqa: S311  - not for security
        self._folder = (before + 1) % FOLDERS
        self._unswept = []
        with _translating(), contextlib.suppress(FileNotFoundError):
            self._unswept = self._handles_in(f"{self._folder:02x}")
        return self._unswept

    def _owner_folders(self) -> t.Iterator[Path]:
        with _translating():
            yield from self._owners.folders()

    def _prune_if_doubled(self, folder: Path) -> None:
        with _translating():
            handles = self._owners.handles(folder)
        for handle in handles if has_doubled(len(handles)) else ():
            self._prune(folder, handle)

    def _prune(self, folder: Path, handle: str) -> bool:
        """Remove an entry if its session is gone."""
        with self._locked(handle):
            return self._prune_locked(folder, handle)

    def _prune_locked(self, folder: Path, handle: str) -> bool:
        """As :meth:`_prune`, for who has the lock already."""
        filed_ms = self._owners.filed_ms(folder, handle)
        if filed_ms is None:
            return False
        entry = Entry(handle, _read_locked(self._path(handle), HEAD_SIZE), filed_ms)
        left = has_left(entry, folder.name, self.now())
        if left:
            self._owners.unfile(folder, handle)
        return left

    def _has_expired(self, handle: str, now: float) -> bool:
        """Whether a file had probably expired at ``now``; only probably, since the lock is not held.

        :raises PermissionError: if the file cannot be read.
        """
        try:
            head = _read(self._path(handle), HEADER_SIZE)
            return head[:1] in (b"", _TAKEN) or has_expired(head, now)
        except FileNotFoundError:
            return True
        except PermissionError:
            raise
        except OSError as error:
            raise _translated(error) from error

    def _remove_expired(self, handle: str, now: float) -> bool:
        """Remove a file and its owner's entry, if it had expired at ``now``."""
        path = self._path(handle)
        with self._locked(handle):
            head = _read_locked(path, HEAD_SIZE)
            if head and not has_expired(head, now):
                return False
            _remove_all(path)
            owner = owner_in(head or b"")
            if owner is not None:
                self._prune_locked(self._owners.folder(owner), handle)
            return head is not None


class _Locked:
    """Holds the lock of a handle, against all threads and processes. Translates errors of the block."""

    __slots__ = ("_held", "_locks", "_number")

    def __init__(self, locks: Locks, number: int) -> None:
        self._locks, self._number = locks, number

    def __enter__(self) -> None:
        try:
            self._held = self._locks.acquire(self._number)
        except OSError as error:
            raise _translated(error) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._locks.release(self._held)
        if isinstance(error, OSError):
            raise _translated(error) from error


def _read(path: str, size: int | None = None) -> bytes:
    descriptor = system.open_file(path, os.O_RDONLY)
    try:
        return os.read(descriptor, size) if size else _read_all(descriptor)
    finally:
        os.close(descriptor)


def _read_all(descriptor: int) -> bytes:
    data = os.read(descriptor, _CHUNK)
    while len(data) % _CHUNK == 0 and (more := os.read(descriptor, _CHUNK)):
        data += more
    return data


def _read_unlocked(path: str, size: int | None = None) -> bytes | None:
    """The bytes of a record, or the first ``size`` of them; None if the file may have been written to meanwhile.

    One exchange after a file was opened here, it may be the spare that the next exchange writes into. If its head is
    the same before and after the reading, and does not mark a file being written, nothing was written in between. A
    new file is empty for a moment.
    """
    descriptor = system.open_file(path, os.O_RDONLY)
    try:
        data = os.read(descriptor, size) if size else _read_all(descriptor)
        os.lseek(descriptor, 0, os.SEEK_SET)
        unchanged = data[:1] not in (b"", _TAKEN) and os.read(descriptor, HEADER_SIZE) == data[:HEADER_SIZE]
        return data if unchanged else None
    finally:
        os.close(descriptor)


def _read_locked(path: str, size: int | None = None) -> bytes | None:
    """The bytes of a record; None if there is no record. Finishes the exchange of a writer that was killed.

    A file that cannot be read gives no bytes, like an empty, damaged file: so it can be replaced, and removed.
    """
    try:
        data = _read(path, size)
    except PermissionError:
        return b""
    except FileNotFoundError:
        newer = _cut_off(path)
        if newer is None:
            return None
        data = _read(newer, size)
        with contextlib.suppress(OSError):  # a reader may lack the right to rename, and need not rename
            system.replace(newer, path)
    return None if data[:1] == _TAKEN else data


def _cut_off(path: str) -> str | None:
    """The newer of two spares without a record: an exchange was interrupted between its two renames."""
    whole = {}
    for name in (path + suffix for suffix in _SPARES):
        try:
            head = _read(name, HEADER_SIZE)
        except FileNotFoundError:
            return None
        except PermissionError:  # the file of another user
            continue
        if head[:1] != _TAKEN:
            whole[is_tombstone(head), head[TIMES]] = name
    return whole[max(whole)] if whole else None


def _exchange(path: str, data: bytes) -> bool:
    """Replace the record by ``data``; the old record becomes the spare. False if somebody has just removed it."""
    spare, aside = _SPARES[::-1] if os.access(path + _SPARES[1], os.F_OK) else _SPARES
    _fill(_open_spare(path + spare), path + spare, data)
    try:
        system.replace(path, path + aside)
    except FileNotFoundError:
        return False
    system.replace(path + spare, path)
    return True


def _open_spare(path: str) -> int:
    try:
        return system.open_file(path, os.O_WRONLY | os.O_CREAT)
    except PermissionError:  # the file of another user
        system.remove(path)
        return system.open_file(path, _NEW_FILE)


def _fill(descriptor: int, path: str, data: bytes) -> None:
    """Write a file, new or existing, and close it; half a record would take space, and is removed."""
    try:
        try:
            _write(descriptor, data)
        finally:
            os.close(descriptor)
    except OSError:
        _remove(path)
        raise


def _write(descriptor: int, data: bytes) -> None:
    """Write all bytes. The first is a zero until everything else is written."""
    os.write(descriptor, _TAKEN)
    os.ftruncate(descriptor, len(data))
    view, written = memoryview(data), 1
    while written < len(data):
        written += os.write(descriptor, view[written:])
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, data[:1])


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        system.remove(path)


def _remove_all(path: str) -> None:
    # The spares first: two spares without a record would look like the exchange of a killed writer.
    for name in (*(path + suffix for suffix in _SPARES), path):
        _remove(name)


@contextlib.contextmanager
def _translating() -> t.Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _translated(error) from error


def _no_folder(folder: Path) -> str:
    return (
        f"something that is not a folder is in the place of an owner's list; remove"
        f" .owners/{folder.parent.name}/{folder.name}"
    )


def _unreadable(path: str, error: OSError) -> StoreError:
    """The error for a file that cannot be read. A file of another user counts as damaged, so its visitor gets a new
    session; a 503 would last for ever.
    """
    if isinstance(error, PermissionError):
        with contextlib.suppress(OSError):
            owner = system.stranger(path)
            if owner is not None:
                why = f"the file of this session belongs to {owner} and cannot be read"
                return SessionCorrupt(why, newer=False)
    return _translated(error)


def _translated(error: OSError) -> StoreUnavailable:
    """The error for an error of the operating system, without the path."""
    reason = os.strerror(error.errno) if error.errno else "unknown"
    if error.errno in _NO_ROOM:
        return StoreFull(f"there is no room in the session folder ({reason})")
    return StoreUnavailable(f"the session folder cannot be used ({reason})")
