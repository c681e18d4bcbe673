"""What FileSystemStore asks of the operating system beyond what ``os`` offers everywhere: locks, and who owns a file.

POSIX and Windows have the same functions.
"""

from __future__ import annotations

import sys

if sys.platform == "win32":
    from .windows import open_file, refusal, remove, replace, stranger, try_lock, unlock
else:
    from .posix import open_file, refusal, remove, replace, stranger, try_lock, unlock

__all__ = ["open_file", "refusal", "remove", "replace", "stranger", "try_lock", "unlock"]
