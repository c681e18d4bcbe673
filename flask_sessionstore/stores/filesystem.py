"""FileSystemStore: one file for each session. The default.

::

    sessions/               0700
      .locks/00 ... 3f      a fixed set, locked around every write
      a7/                   fan-out by the first two digits of the handle
        session%3Aa7...     the record, 0600; its modification time is the session's end
        session%3Aa7...+    being written
        session%3Aa7...~    the one before, for the moment of the exchange

A record is exchanged by three steps under its lock: the new one is written aside, the old one renamed away, the new
one renamed in. Renaming *over* a file would be one step, but makes ext4 flush to the disk (``auto_da_alloc``), which
takes three times as long as the whole exchange. A reader that finds nothing looks again under the lock, where a
writer that was killed half-way is also mended.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import threading
import typing as t
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote, urlsplit
from urllib.request import url2pathname

from ..errors import ConfigurationError, StoreUnavailable
from ..record import HEADER_SIZE, expires_ms_of, revision_of
from .base import ServerSideStore, StoreFull, Sweeps, has_expired

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_NEW, _OLD = "+", "~"
_LOCKS = 64
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# os.read asks for this much at first: nearly every session fits.
_CHUNK = 64 * 1024


class FileSystemStore(ServerSideStore, Sweeps):
    """Sessions as files in a folder of this machine, shared by all its processes.

    Nothing is evicted: expired files stay until :meth:`delete_expired` removes them. Not for network file systems,
    whose locks cannot be relied on.

    :param path: the folder; made at first use, for its owner alone.
    """

    def __init__(self, path: str | os.PathLike[str], *, prefix: str = "session:") -> None:
        super().__init__(prefix=prefix)
        self.path = Path(path).absolute()
        self._root = str(self.path)
        self._name = quote(prefix, safe="")
        self._locks = _Locks(self._root)
        self._ready = False

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
        path = self._path(handle)
        try:
            return _read(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise _translated(error) from error
        if not self._exists():
            return None
        with self._locked(handle):
            _mend(path)
            with contextlib.suppress(FileNotFoundError):
                return _read(path)
            return None

    def add(self, handle: str, data: bytes, ttl: timedelta) -> bool:
        path = self._path(handle)
        with self._locked(handle):
            _mend(path)
            if self._current(path) is not None:
                return False
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            _write(path, data)
            os.rename(path + _NEW, path)
            return True

    def swap(self, handle: str, data: bytes, ttl: timedelta, *, replaces: bytes | None) -> bool:
        path = self._path(handle)
        if not self._exists():
            return False
        with self._locked(handle):
            _mend(path)
            head = self._current(path)
            if head is None or (replaces is not None and revision_of(head) != replaces):
                return False
            _write(path, data)
            os.rename(path, path + _OLD)
            os.rename(path + _NEW, path)
            os.unlink(path + _OLD)
            return True

    def drop(self, handle: str) -> None:
        path = self._path(handle)
        if not self._exists():
            return
        with self._locked(handle):
            # The old one first: were it left alone, it would be taken for the record of a writer that was killed.
            for name in (path + _OLD, path + _NEW, path):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name)

    def delete_expired(self, limit: int | None = None) -> int:
        removed = 0
        if not self._exists():
            return removed
        for handle in self._expired():
            if limit is not None and removed >= limit:
                break
            removed += self._remove_expired(handle)
        return removed

    def after_fork(self) -> None:
        self._locks = _Locks(self._root)

    # -- how ------------------------------------------------------------------------------------------------------

    def _path(self, handle: str) -> str:
        return f"{self._root}/{handle[:2]}/{self._name}{handle}"

    def _current(self, path: str) -> bytes | None:
        """The head of the record in a file; None if there is none, or it has expired."""
        try:
            head = _read(path, HEADER_SIZE)
        except FileNotFoundError:
            return None
        return None if has_expired(head, self.now()) else head

    @contextlib.contextmanager
    def _locked(self, handle: str) -> t.Iterator[None]:
        """Alone with this handle, among all threads and processes. Here a write's errors are translated."""
        try:
            self._prepare(handle)
            with self._locks.hold(int(handle[:2], 16) % _LOCKS):
                yield
        except OSError as error:
            raise _translated(error) from error

    def _exists(self) -> bool:
        return self._ready or os.path.isdir(self._root)

    def _prepare(self, handle: str) -> None:
        if not self._ready:
            os.makedirs(self._root, 0o700, exist_ok=True)
            _check_folder(self._root)
            os.makedirs(f"{self._root}/.locks", 0o700, exist_ok=True)
            self._ready = True
        folder = f"{self._root}/{handle[:2]}"
        if not os.path.isdir(folder):
            os.makedirs(folder, 0o700, exist_ok=True)

    def _expired(self) -> t.Iterator[str]:
        """Handles of files whose end has come; leftovers of killed writers count by the handle they belong to."""
        try:
            for folder in os.listdir(self._root):
                if len(folder) == 2:
                    yield from self._expired_in(f"{self._root}/{folder}")
        except OSError as error:
            raise _translated(error) from error

    def _expired_in(self, folder: str) -> list[str]:
        with os.scandir(folder) as entries:
            over = [entry.name for entry in entries if entry.name.startswith(self._name) and self._is_over(entry)]
        handles = (name.removeprefix(self._name).rstrip(_NEW + _OLD) for name in over)
        return sorted({handle for handle in handles if _is_handle(handle)})

    def _is_over(self, entry: os.DirEntry[str]) -> bool:
        try:
            return entry.stat(follow_symlinks=False).st_mtime <= self.now()
        except FileNotFoundError:
            return False

    def _remove_expired(self, handle: str) -> int:
        path = self._path(handle)
        with self._locked(handle):
            _mend(path)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path + _NEW)
            try:
                if os.stat(path).st_mtime > self.now():
                    return 0
                os.unlink(path)
            except FileNotFoundError:
                return 0
            return 1


class _Locks:
    """A fixed set of locks between threads and processes.

    Made anew in a child process: an inherited descriptor shares the parent's lock.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._threads = [threading.Lock() for _ in range(_LOCKS)]
        self._files: dict[int, int] = {}

    @contextlib.contextmanager
    def hold(self, number: int) -> t.Iterator[None]:
        with self._threads[number]:
            descriptor = self._files.get(number)
            if descriptor is None:
                flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
                descriptor = self._files[number] = os.open(f"{self._root}/.locks/{number:02x}", flags, 0o600)
            _lock(descriptor)
            try:
                yield
            finally:
                _unlock(descriptor)

    def __del__(self) -> None:
        for descriptor in self._files.values():
            with contextlib.suppress(OSError):
                os.close(descriptor)


if sys.platform == "win32":

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)

    def _unlock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _read(path: str, size: int | None = None) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    try:
        data = os.read(descriptor, size or _CHUNK)
        while size is None and len(data) % _CHUNK == 0 and (more := os.read(descriptor, _CHUNK)):
            data += more
        return data
    finally:
        os.close(descriptor)


def _write(path: str, data: bytes) -> None:
    """Write ``data`` beside ``path``, dated to its end."""
    name = path + _NEW
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_CLOEXEC", 0), 0o600)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
        finally:
            os.close(descriptor)
        end = (expires_ms_of(data) or 0) / 1000
        os.utime(name, (end, end))
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def _mend(path: str) -> None:
    """Finish what a killed writer left: its record did not arrive, so the one before stands."""
    with contextlib.suppress(FileNotFoundError):
        if os.path.exists(path):
            os.unlink(path + _OLD)
        else:
            os.rename(path + _OLD, path)


def _check_folder(root: str) -> None:
    """A folder in which others can write is one in which others can plant sessions."""
    if sys.platform == "win32":
        return
    status = os.stat(root)
    if status.st_uid != os.geteuid() and os.geteuid() != 0:
        raise ConfigurationError("the session folder belongs to another user", key="SESSION_STORE")
    if stat.S_IMODE(status.st_mode) & 0o022:
        raise ConfigurationError(
            "the session folder can be written by others: give it to the application alone (chmod 700)",
            key="SESSION_STORE",
        )


def _is_handle(text: str) -> bool:
    return len(text) == 64 and all(digit in "0123456789abcdef" for digit in text)


def _translated(error: OSError) -> StoreUnavailable:
    """What the operating system says, without the path."""
    reason = os.strerror(error.errno) if error.errno else "unknown"
    if error.errno in _NO_ROOM:
        return StoreFull(f"there is no room in the session folder ({reason})")
    return StoreUnavailable(f"the session folder cannot be used ({reason})")
