"""FileSystemStore: one file for each session. The default.

::

    sessions/               0700
      .locks/00 ... 3f      a fixed set, locked around every write
      .owners/              whose sessions are whose: see owners.py
      a7/                   fan-out by the first two digits of the handle
        session%3Aa7...     the record, 0600
        session%3Aa7...+    the spare, or
        session%3Aa7...~    the spare

A record is exchanged under its lock: the new one is written into the spare, the old one renamed to the third name,
where it is the next spare, and the new one renamed in. To rename a temporary file over the record would be simpler.
But then ext4 flushes it to the disk (``auto_da_alloc``), and every write takes and frees an inode; as ext4 does not
take a freed one again for minutes, each write on a busy folder would search through thousands of them. A file that is
being written has a zero for its first byte. A reader that meets one, or none, looks again under the lock.

Two spares and no record: that is only between the two renames. So there, and only there, a writer was killed, and its
exchange is finished. One spare and no record: somebody removed the record by hand, and with it the session.
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
from ...layout import HEAD_SIZE, HEADER_SIZE, TIMES, is_tombstone, may_replace
from ..base import Entry, OwnerIndex, Scans, ServerSideStore, Sweeps, has_expired, has_left
from ..exposure import network_file_system
from .locks import LOCKS, Held, Locks, check_folder, user_name
from .owners import OwnerFolders

logger = logging.getLogger("flask_sessionstore")

_SPARES = ("+", "~")
_TAKEN = b"\0"  # in the place of the first byte of a file that is being written
_CLOEXEC = os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _CLOEXEC
_READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# What file systems take, but for the handle and the suffix of a spare.
_LONGEST_NAME = 255 - 64 - 1
# os.read asks for this much at first: nearly every session fits.
_CHUNK = 64 * 1024


class FileSystemStore(ServerSideStore, Sweeps, Scans, OwnerIndex):
    """Sessions as files in a folder of this machine, shared by all its processes.

    Nothing is evicted: expired files stay until :meth:`delete_expired` removes them. Not for network file systems,
    whose locks cannot be relied on.

    :param path: the folder; made at first use, for its owner alone.
    :raises ConfigurationError: if the prefix is too long for the names of files.
    """

    def __init__(self, path: str | os.PathLike[str], *, prefix: str = "session:") -> None:
        super().__init__(prefix=prefix)
        self.path = Path(path).absolute()
        self._root = str(self.path)
        self._name = quote(prefix, safe="")
        if len(self._name) > _LONGEST_NAME:
            raise ConfigurationError(
                f"SESSION_KEY_PREFIX: the names of files have room for {_LONGEST_NAME} bytes of it, percent-encoded,"
                f" and it has {len(self._name)}",
                key="SESSION_KEY_PREFIX",
            )
        self._owners = OwnerFolders(self._root, self._name)
        self._locks = Locks(self._root)
        self._checked = False

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

    def read(self, handle: str) -> bytes | None:
        return self._read(handle)

    def _read(self, handle: str, size: int | None = None) -> bytes | None:
        """What is under a handle, or its first ``size`` bytes."""
        if not self._exists():
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
            if is_tombstone(data):  # what ended leaves no copy behind, and its tombstone goes into a file of its own
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
        for handle in self._handles() if self._exists() else ():
            if limit is not None and removed >= limit:
                break
            try:
                removed += self._has_expired(handle) and self._remove_expired(handle)
            except PermissionError:
                unreadable += 1
        if unreadable:
            logger.warning("%d files of sessions cannot be read, and stay: are they another user's?", unreadable)
        return removed

    # -- owners, and all sessions ----------------------------------------------------------------------------------

    def file(self, owner: str, handle: str) -> None:
        folder = self._owners.folder(owner)
        if self._owners.is_foreign(folder):
            logger.warning("a session of an owner is not listed: %s", _no_folder(folder))
            return
        with self._locked(handle):  # so that nobody removes the entry who has just found it old
            self._owners.file(folder, handle, self._now_ms())

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

    def risks(self) -> list[str]:
        kind = network_file_system(self._root)
        risk = (
            f"The sessions' folder is on a network file system ({kind}), whose locks cannot be relied on, so writes may"
            " be lost: take a local folder or, for several machines, Redis or an SQL database."
        )
        return [] if kind is None else [risk]

    # -- how ------------------------------------------------------------------------------------------------------

    def _path(self, handle: str) -> str:
        return f"{self._root}/{handle[:2]}/{self._name}{handle}"

    def _create(self, path: str, data: bytes) -> bool:
        """Write a file that is new; False if there is one of this name."""
        try:
            descriptor = os.open(path, _NEW_FILE, 0o600)
        except FileExistsError:
            return False
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                os.mkdir(os.path.dirname(path), 0o700)
            descriptor = os.open(path, _NEW_FILE, 0o600)
        _fill(descriptor, path, data)
        return True

    def _current(self, path: str) -> bytes | None:
        """The head of the record in a file; None if there is none, or it has expired. Under the lock."""
        head = _read_locked(path, HEADER_SIZE)
        return None if head is None or has_expired(head, self.now()) else head

    def _locked(self, handle: str) -> _Locked:
        return _Locked(self._locks, int(handle[:2], 16) % LOCKS)

    def _read_again(self, handle: str, path: str, size: int | None) -> bytes | None:
        """Under the lock. Without it where there is none and none can be made, and so nobody writes."""
        try:
            with self._locked(handle):
                return _read_locked(path, size)
        except StoreUnavailable as error:
            if not isinstance(error.__cause__, OSError) or error.__cause__.errno not in _READ_ONLY:
                raise
        with _translating():
            return _read_locked(path, size)

    def _listed(self, handle: str, size: int | None = None) -> bytes | None:
        """As :meth:`read`, for a list of many: what cannot be read is shown as damaged, and the others are shown."""
        try:
            return self._read(handle, size)
        except StoreError as error:
            if isinstance(error.__cause__, PermissionError):
                return b""
            raise

    def _exists(self) -> bool:
        """Whether there is a folder yet, which is then known to be ours alone."""
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
        """The handles of all files; a spare without its record counts. They begin anywhere, for sweeps with a limit."""
        with _translating():
            folders = os.listdir(self._root)
            first = random.randrange(len(folders) or 1)  # noqa: S311  - no secret
            for folder in folders[first:] + folders[:first]:
                if len(folder) == 2:
                    names = os.listdir(f"{self._root}/{folder}")
                    ours = (name.removeprefix(self._name) for name in names if name.startswith(self._name))
                    yield from sorted(filter(is_handle, {name.rstrip("".join(_SPARES)) for name in ours}))

    def _owner_folders(self) -> t.Iterator[Path]:
        with _translating():
            yield from self._owners.folders()

    def _prune(self, folder: Path, handle: str) -> bool:
        """Remove an entry if its session has left."""
        with self._locked(handle):
            filed_ms = self._owners.filed_ms(folder, handle)
            if filed_ms is None:
                return False
            entry = Entry(handle, _read_locked(self._path(handle), HEAD_SIZE), filed_ms)
            left = has_left(entry, folder.name, self.now())
            if left:
                self._owners.unfile(folder, handle)
            return left

    def _has_expired(self, handle: str) -> bool:
        """Without the lock, and so only probably.

        :raises PermissionError: if the file cannot be read.
        """
        try:
            head = _read(self._path(handle), HEADER_SIZE)
            return head[:1] in (b"", _TAKEN) or has_expired(head, self.now())
        except FileNotFoundError:
            return True
        except PermissionError:
            raise
        except OSError as error:
            raise _translated(error) from error

    def _remove_expired(self, handle: str) -> bool:
        path = self._path(handle)
        with self._locked(handle):
            head = _read_locked(path, HEADER_SIZE)
            if head and not has_expired(head, self.now()):
                return False
            _remove_all(path)
            return head is not None


class _Locked:
    """Alone with a handle, among all threads and processes. Here a write's errors are translated."""

    __slots__ = ("_held", "_locks", "_number")

    def __init__(self, locks: Locks, number: int) -> None:
        self._locks, self._number = locks, number

    def __enter__(self) -> None:
        try:
            self._held: Held = self._locks.acquire(self._number)
        except OSError as error:
            raise _translated(error) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._locks.release(self._held)
        if isinstance(error, OSError):
            raise _translated(error) from error


def _read(path: str, size: int | None = None) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | _CLOEXEC)
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
    """The bytes of a record, or its first, or None if the file may have been written to meanwhile.

    One exchange after it was opened here, a file may be the spare that the next is writing into. If its head is the
    same before and after, and not that of a file being written, nothing was written between.
    """
    descriptor = os.open(path, os.O_RDONLY | _CLOEXEC)
    try:
        data = os.read(descriptor, size) if size else _read_all(descriptor)
        unchanged = data[:1] != _TAKEN and os.pread(descriptor, HEADER_SIZE, 0) == data[:HEADER_SIZE]
        return data if unchanged else None
    finally:
        os.close(descriptor)


def _read_locked(path: str, size: int | None = None) -> bytes | None:
    """The bytes of a record, or None if there are none. Finishes the exchange of a writer that was killed.

    What cannot be read is empty, as a damaged file may be: it can be replaced, and removed.
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
        with contextlib.suppress(OSError):  # a reader may not be able to, and need not
            os.rename(newer, path)
    return None if data[:1] == _TAKEN else data


def _cut_off(path: str) -> str | None:
    """The newer of two spares whose record is missing: an exchange was cut off between its renames."""
    whole = {}
    for name in (path + suffix for suffix in _SPARES):
        try:
            head = _read(name, HEADER_SIZE)
        except FileNotFoundError:
            return None
        except PermissionError:  # another user's
            continue
        if head[:1] != _TAKEN:
            whole[is_tombstone(head), head[TIMES]] = name
    return whole[max(whole)] if whole else None


def _exchange(path: str, data: bytes) -> bool:
    """Put ``data`` in the place of the record, which becomes the spare; False if somebody has just removed it."""
    spare, aside = _SPARES if not os.path.exists(path + _SPARES[1]) else _SPARES[::-1]
    _fill(_open_spare(path + spare), path + spare, data)
    try:
        os.rename(path, path + aside)
    except FileNotFoundError:
        return False
    os.rename(path + spare, path)
    return True


def _open_spare(path: str) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | _CLOEXEC, 0o600)
    except PermissionError:  # another user's
        os.unlink(path)
        return os.open(path, _NEW_FILE, 0o600)


def _fill(descriptor: int, path: str, data: bytes) -> None:
    """Write a file, new or not, and close it."""
    try:
        os.pwrite(descriptor, _TAKEN, 0)
        view, written = memoryview(data), 1
        while written < len(data):
            written += os.pwrite(descriptor, view[written:], written)
        os.ftruncate(descriptor, written)
        os.pwrite(descriptor, data[:1], 0)
    except OSError:
        _remove(path)  # half a record takes room, and there may be none
        raise
    finally:
        os.close(descriptor)


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _remove_all(path: str) -> None:
    # The spares first: left alone, both might be taken for what a killed writer left.
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
        f"something else stands where a folder of sessions belongs; remove .owners/{folder.parent.name}/{folder.name}"
    )


def _unreadable(path: str, error: OSError) -> StoreError:
    """Another user's file is damage: its visitor gets a new session, where a 503 would stay for good."""
    if isinstance(error, PermissionError):
        with contextlib.suppress(OSError):
            owner = os.stat(path).st_uid
            if owner != os.geteuid():
                why = f"the file of this session belongs to {user_name(owner)} and cannot be read"
                return SessionCorrupt(why, newer=False)
    return _translated(error)


def _translated(error: OSError) -> StoreUnavailable:
    """What the operating system says, without the path."""
    reason = os.strerror(error.errno) if error.errno else "unknown"
    if error.errno in _NO_ROOM:
        return StoreFull(f"there is no room in the session folder ({reason})")
    return StoreUnavailable(f"the session folder cannot be used ({reason})")
