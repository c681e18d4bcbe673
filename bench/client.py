"""A browser that costs almost nothing: one prepared request and one cookie."""

from __future__ import annotations

import typing as t

from flask import Flask
from werkzeug.test import create_environ

if t.TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment


class Client:
    """Calls *app* as a server would; with *follow* it keeps the newest cookie and sends it from then on."""

    def __init__(self, app: Flask, *, follow: bool = True) -> None:
        self.app = app
        self.follow = follow
        self.cookie: str | None = None
        self.headers: list[tuple[str, str]] = []
        self.environ: WSGIEnvironment = create_environ("/")

    def get(self, path: str) -> str:
        """The body of an answer, for requests that are not timed."""
        return self.call({**self.environ, "PATH_INFO": path}).decode()

    def call(self, environ: WSGIEnvironment | None = None) -> bytes:
        """One request, which has to succeed; its cost outside the application is the same for every subject."""
        response = self.app.wsgi_app(self.environ.copy() if environ is None else environ, self.start_response)
        body = b"".join(response)
        response.close()  # type: ignore[attr-defined]  # werkzeug's iterators always have it
        if self.follow:
            self.keep_cookie()
        return body

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: object = None) -> t.Any:
        if not status.startswith("200"):
            raise RuntimeError(status)  # a request that fails has another cost
        self.headers = headers

    def keep_cookie(self) -> None:
        for name, value in self.headers:
            if name == "Set-Cookie":
                self.environ["HTTP_COOKIE"] = value.partition(";")[0]
