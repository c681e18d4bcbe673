"""A real cache in front of the application: nginx, as it comes, and told to ignore Vary."""

from __future__ import annotations

import socket
import subprocess
import threading
import typing as t
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import pytest
import servers
from flask import Flask, Response
from werkzeug.serving import make_server

from flask_sessionstore import SessionManager, session


def make_app(*, private_reads: bool) -> Flask:
    app = Flask("cached")
    app.config.update(SECRET_KEY="a secret", SESSION_STORE="memory:", SESSION_PRIVATE_READS=private_reads)
    SessionManager(app)

    @app.get("/in/<name>")
    def log_in(name: str) -> str:
        session["_user_id"] = name
        return "in"

    @app.get("/page")
    def page() -> Response:
        return Response(session.get("_user_id", "nobody"), headers={"Cache-Control": "max-age=60"})

    return app


class Cache:
    """nginx with a cache, in front of an application that runs in this process."""

    def __init__(self, app: Flask, folder: Path, directive: str) -> None:
        self._stack = ExitStack()
        behind = make_server("127.0.0.1", 0, app, threaded=True)
        thread = threading.Thread(target=behind.serve_forever)
        thread.start()
        self._stack.callback(thread.join)
        self._stack.callback(behind.server_close)
        self._stack.callback(behind.shutdown)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
        location = f"proxy_pass http://127.0.0.1:{behind.server_port}; proxy_cache cache; {directive}"
        (folder / "nginx.conf").write_text(
            f"daemon off; master_process off; pid {folder}/pid; error_log stderr notice; events {{}}\n"
            f"http {{ access_log off; {temporary} proxy_cache_path {folder}/cache keys_zone=cache:1m;\n"
            f"server {{ listen 127.0.0.1:{self.port}; location / {{ {location} }} }} }}\n"
        )
        command = [str(servers.program("nginx")), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]
        nginx = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self._stack.callback(nginx.wait)
        self._stack.callback(nginx.terminate)
        errors = t.cast("t.IO[str]", nginx.stderr)
        self._stack.callback(errors.close)
        while "OS: " not in (line := errors.readline()):  # the next it does is to serve: the port listens by then
            assert line, "nginx has ended"

    def close(self) -> None:
        self._stack.close()

    def get(self, path: str, cookie: str = "") -> tuple[str, str]:
        """The body, and the cookie that is set."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers={"Cookie": cookie})
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.read().decode(), response.headers.get("Set-Cookie", "").partition(";")[0]

    def users(self) -> list[str]:
        """Their cookies."""
        return [self.get(f"/in/{name}")[1] for name in ("ann", "bob")]


@pytest.fixture
def cached(tmp_path: Path) -> t.Iterator[t.Callable[..., Cache]]:
    with ExitStack() as stack:

        def make(directive: str = "", *, private_reads: bool = False) -> Cache:
            cache = Cache(make_app(private_reads=private_reads), tmp_path, directive)
            stack.callback(cache.close)
            return cache

        yield make


@pytest.mark.server
def test_nginx_as_it_comes_gives_nobody_the_page_of_another(cached: t.Callable[..., Cache]) -> None:
    cache = cached()
    ann, bob = cache.users()
    assert [cache.get("/page", cookie)[0] for cookie in (ann, bob, "", ann)] == ["ann", "bob", "nobody", "ann"]


@pytest.mark.server
def test_a_cache_that_ignores_vary_does_and_the_setting_keeps_it_from_it(
    cached: t.Callable[..., Cache], tmp_path: Path
) -> None:
    careless = cached("proxy_ignore_headers Vary;")
    ann, bob = careless.users()
    assert [careless.get("/page", cookie)[0] for cookie in (ann, bob)] == ["ann", "ann"]
    careless.close()
    private = cached('proxy_cache_key "private$request_uri"; proxy_ignore_headers Vary;', private_reads=True)
    ann, bob = private.users()
    assert [private.get("/page", cookie)[0] for cookie in (ann, bob, ann)] == ["ann", "bob", "ann"]
    assert [private.get("/page", cookie)[0] for cookie in ("", bob)] == ["nobody", "nobody"], "a guest's page is shared"
