"""What the shop is built with, made before any application is."""

from __future__ import annotations

from flask_sessionstore import SessionManager

sessions = SessionManager()
