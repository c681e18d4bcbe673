"""Where the folders of tests are: in memory, where the system has enough of it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

#: Linux has a folder there whose files are never written to a disk.
MEMORY = Path("/dev/shm")
ENOUGH = 2 << 30


def fits_in_memory() -> bool:
    """Whether that folder takes what tests write, and lets them run what they put there: in a container it may not."""
    if not os.access(MEMORY, os.W_OK | os.X_OK):
        return False
    return not os.statvfs(MEMORY).f_flag & os.ST_NOEXEC and shutil.disk_usage(MEMORY).free > ENOUGH
