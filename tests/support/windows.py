"""An emulation of what differs on Windows. No test has run on a real Windows."""

from __future__ import annotations

import errno
import fcntl
import os
import sys
import threading
import typing as t
from pathlib import Path
from types import ModuleType

import pytest

from flask_sessionstore.stores.filesystem import locks, owners, store, system, windows


class Msvcrt(ModuleType):
    """Locks of parts of files: exclusive between open files, however many processes have them, also within one."""

    LK_UNLCK, LK_LOCK, LK_NBLCK = 0, 1, 2

    def __init__(self) -> None:
        super().__init__("msvcrt")
        self._held: dict[int, tuple[int, int]] = {}

    def locking(self, descriptor: int, mode: int, size: int) -> None:
        """Lock or unlock ``size`` bytes from the file's present position."""
        part = (os.lseek(descriptor, 0, os.SEEK_CUR), size)
        if mode == self.LK_UNLCK:
            if self._held.get(descriptor) != part:
                raise PermissionError(errno.EACCES, "not locked")
            del self._held[descriptor]
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            return
        assert mode == self.LK_NBLCK, "any other mode waits ten seconds"
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PermissionError(errno.EACCES, "locked") from None
        self._held[descriptor] = part


class WindowsOS:
    """The os module without what Windows lacks, where open files can be neither renamed nor removed."""

    O_BINARY = 0x8000
    LACKS = frozenset({"pread", "pwrite", "geteuid", "getuid", "fork", "O_CLOEXEC", "posix_fallocate", "statvfs"})

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: The paths of open files, by descriptor.
        self.opened: dict[int, tuple[int, int]] = {}
        self._as_text: set[int] = set()

    def __getattr__(self, name: str) -> t.Any:
        if name in self.LACKS:
            raise AttributeError(f"module 'os' has no attribute {name!r}")
        return getattr(os, name)

    def open(self, path: str, flags: int, mode: int = 0o777) -> int:
        with self._lock:
            descriptor = os.open(path, flags & ~self.O_BINARY, mode)
            self.opened[descriptor] = self._identity(path)
            if not flags & self.O_BINARY:
                self._as_text.add(descriptor)
            return descriptor

    def close(self, descriptor: int) -> None:
        with self._lock:
            del self.opened[descriptor]
            self._as_text.discard(descriptor)
            os.close(descriptor)

    def write(self, descriptor: int, data: t.Any) -> int:
        as_text = descriptor in self._as_text
        written = os.write(descriptor, bytes(data).replace(b"\n", b"\r\n") if as_text else data)
        return len(data) if as_text else written

    def replace(self, source: str, target: str) -> None:
        with self._lock:
            self._refuse_open(source, target)
            Path(source).replace(target)

    def rename(self, source: str, target: str) -> None:
        if Path(target).exists():
            raise FileExistsError(errno.EEXIST, "exists", target)
        self.replace(source, target)

    def unlink(self, path: str) -> None:
        with self._lock:
            self._refuse_open(path)
            Path(path).unlink()

    def _identity(self, path: str) -> tuple[int, int]:
        found = Path(path).stat()
        return found.st_dev, found.st_ino

    def _refuse_open(self, *paths: str) -> None:
        for path in paths:
            if Path(path).exists() and self._identity(path) in self.opened.values():
                raise PermissionError(errno.EACCES, "used by another process", path)


def emulate(patch: pytest.MonkeyPatch) -> WindowsOS:
    """Let FileSystemStore run as on Windows, and return the os module that it uses then."""
    patch.setitem(sys.modules, "msvcrt", Msvcrt())
    theirs = WindowsOS()
    for module in (windows, locks, owners, store):
        patch.setattr(module, "os", theirs)
    for name in system.__all__:
        patch.setattr(system, name, getattr(windows, name))
    return theirs
