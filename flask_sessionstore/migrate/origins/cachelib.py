"""Reads sessions from one of cachelib's caches. Only caches in files can be read without running their pickles."""

from __future__ import annotations

import os
import typing as t

from cachelib.file import FileSystemCache

from ...errors import ConfigurationError
from .files import Files


def origin(source: t.Any) -> Files:
    """The origin in a FileSystemCache's folder. The cache itself is not asked: it would run the pickles there."""
    return Files(folder_of(source))


def folder_of(source: object) -> str:
    """The folder of a FileSystemCache.

    :raises ConfigurationError: if it is another cache.
    """
    folder = vars(source).get("_path") if isinstance(source, FileSystemCache) else None  # no public attribute has it
    if not isinstance(folder, (str, os.PathLike)):
        raise ConfigurationError(
            f"of cachelib's caches only FileSystemCache can be read, not {type(source).__name__}: only that cache"
            " itself can read what it has stored"
        )
    return os.fspath(folder)
