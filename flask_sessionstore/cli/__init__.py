"""The command ``flask sessions``."""

from .commands import sessions

__all__ = ["sessions"]
