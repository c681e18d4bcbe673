"""The command ``flask sessions``."""

from . import moves  # which adds its commands
from .commands import sessions

__all__ = ["moves", "sessions"]
