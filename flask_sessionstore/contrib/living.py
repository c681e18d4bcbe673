"""Living sessions: how many an application has, asked of its store whenever somebody reads the metrics."""

from __future__ import annotations

import logging

from flask import Flask

from ..current import store_in_use
from ..errors import UnsupportedByStore
from ..stores.base import Counts

logger = logging.getLogger("flask_sessionstore")

#: What the gauges say of themselves.
DESCRIPTION = "Sessions that have neither ended nor expired."


class Living:
    """Counts the living sessions of an application.

    :raises ConfigurationError: if the application has no SessionManager.
    :raises UnsupportedByStore: if its store cannot count them without reading all of them.
    """

    def __init__(self, app: Flask) -> None:
        with app.app_context():
            store = store_in_use()
        counts = store.ability(Counts)
        if counts is None:
            raise UnsupportedByStore(f"{store.name} cannot count its sessions without reading all of them")
        self._counts = counts

    def now(self) -> int | None:
        """How many there are; None if the store cannot tell now, which is logged: the other metrics are to be read."""
        try:
            return self._counts.count()
        except Exception as error:
            logger.warning("living sessions could not be counted: %s", type(error).__name__, exc_info=error)
            return None
