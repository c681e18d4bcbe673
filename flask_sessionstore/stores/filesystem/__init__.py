"""FileSystemStore: one file for each session. The default."""

from .store import FileSystemStore

__all__ = ["FileSystemStore"]
