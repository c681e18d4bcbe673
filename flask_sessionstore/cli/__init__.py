"""The command ``flask sessions``."""

from . import moves  # adds its commands when it is imported
from .commands import sessions

__all__ = ["moves", "sessions"]
