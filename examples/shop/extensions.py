"""The extensions of the shop, made before any application."""

from __future__ import annotations

from flask_sessionstore import SessionManager

sessions = SessionManager()
