"""Places on this machine's disks: whether a store can make its folder or file there, and whether it would last."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ..errors import StoreUnavailable

#: Folders from which systems remove old files by themselves.
TEMPORARY = ("/tmp", "/var/tmp")  # noqa: S108  - nothing is made there


def is_there(path: Path) -> bool:
    """Whether a folder or a file exists.

    :raises StoreUnavailable: if this user cannot see that.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise StoreUnavailable("a folder or file of sessions cannot be looked at") from error
    return True


def try_to_make_in(folder: Path) -> None:
    """Find out whether something can be made in a folder; nothing stays there.

    To make the thing itself would be too much for a command that only looks: as root, it would make a folder or a file
    that the application cannot use later.

    :raises OSError: if nothing can be made there.
    """
    Path(tempfile.mkdtemp(prefix=".", dir=folder)).rmdir()


def nearest(path: Path) -> Path:
    """The nearest folder above ``path`` that exists."""
    return next(folder for folder in path.parents if folder.exists())


def temporary_risk(what: str, path: str) -> list[str]:
    """A finding if ``path`` is in a folder whose files do not last.

    :param what: what is at ``path``, at the beginning of a sentence.
    """
    real = os.path.realpath(path)
    return [
        f"{what} is below {folder}, from where systems remove old files, and at a restart all files, so visitors are"
        " logged out: use another folder, such as one in /var/lib."
        for folder in TEMPORARY
        if real.startswith(os.path.realpath(folder) + os.sep)
    ][:1]
