"""The demo for servers that speak ASGI."""

from __future__ import annotations

import typing as t

from asgiref.sync import ThreadSensitiveContext
from asgiref.wsgi import WsgiToAsgi
from demo import app

#: One request at a time in each process: asgiref calls all of them in one thread.
asgi = WsgiToAsgi(app)  # type: ignore[no-untyped-call]


async def threads(scope: t.Any, receive: t.Any, send: t.Any) -> None:
    """Each request in a thread of its own."""
    async with ThreadSensitiveContext():
        await asgi(scope, receive, send)
