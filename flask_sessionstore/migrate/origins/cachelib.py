"""In one of cachelib's caches. Only those in files can be read as they lie there."""

from __future__ import annotations

import os
import typing as t

from cachelib.file import FileSystemCache

from ...errors import ConfigurationError
from .files import Files


def origin(source: t.Any) -> Files:
    """The origin in a FileSystemCache's folder: the cache itself would run what it finds there."""
    return Files(folder_of(source))


def folder_of(source: object) -> str:
    """The folder of a FileSystemCache.

    :raises ConfigurationError: if it is another cache.
    """
    folder = vars(source).get("_path") if isinstance(source, FileSystemCache) else None  # nothing public tells it
    if not isinstance(folder, (str, os.PathLike)):
        raise ConfigurationError(
            f"of cachelib's caches it reads FileSystemCache, not {type(source).__name__}: what that one has in an"
            " engine is read by nobody else"
        )
    return os.fspath(folder)
