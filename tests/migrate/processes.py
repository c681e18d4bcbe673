"""Two processes that answer in turn, and a browser that meets them: by its cookies' hosts and paths, as browsers do."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
import typing as t
from http.cookies import SimpleCookie
from pathlib import Path

from shop_server import environment


@contextlib.contextmanager
def started(script: Path, *args: str, python: str | Path = sys.executable) -> t.Iterator[int]:
    """The port of a process, which prints it.

    :param python: of an environment that need not have this package.
    """
    settings = {} if python == sys.executable else {"PYTHONPATH": ""}
    process = subprocess.Popen(
        [str(python), str(script), *args], stdout=subprocess.PIPE, text=True, env=environment(settings)
    )
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


class Answer(t.NamedTuple):
    status: int
    cookies: list[str]
    body: bytes


def exchange(port: int, method: str, path: str, body: object, headers: dict[str, str]) -> Answer:
    """One request, with a body of JSON unless that is None."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    sent = None if body is None else json.dumps(body)
    connection.request(method, path, sent, {"Content-Type": "application/json", **headers})
    response = connection.getresponse()
    answer = Answer(response.status, response.headers.get_all("Set-Cookie") or [], response.read())
    connection.close()
    return answer


def deploy(port: int, settings: dict[str, t.Any], importing: dict[str, t.Any] | None = None) -> None:
    """Let a process go on with these settings: see ``rolling_server.py``."""
    answer = exchange(port, "PUT", "/deploy", {"settings": settings, "importing": importing}, {})
    assert answer.status == 200, answer.body


class Cookie(t.NamedTuple):
    """Where a cookie belongs: the same name elsewhere is another cookie."""

    name: str
    #: With a leading dot if it is for all hosts of a domain.
    host: str
    path: str

    def goes_to(self, host: str, path: str) -> bool:
        its_host = f".{host}".endswith(self.host) if self.host.startswith(".") else host == self.host
        return its_host and f"{path}/".startswith(f"{self.path.rstrip('/')}/")


class Browser:
    """Asks any process, at any host."""

    def __init__(self) -> None:
        self.cookies: dict[Cookie, str] = {}

    def twin(self) -> Browser:
        """A thief, who has these cookies, and keeps them."""
        twin = Browser()
        twin.cookies = dict(self.cookies)
        return twin

    def asks(self, port: int, path: str, body: object = None, host: str = "shop.test") -> t.Any:
        """The JSON that is answered, or None."""
        mine = [(cookie, value) for cookie, value in self.cookies.items() if cookie.goes_to(host, path)]
        mine.sort(key=lambda one: -len(one[0].path))
        headers = {"Host": host, "Cookie": "; ".join(f"{cookie.name}={value}" for cookie, value in mine)}
        answer = exchange(port, "GET" if body is None else "POST", path, body, headers)
        assert answer.status == 200, answer.body
        for header in answer.cookies:
            self._take(header, host)
        return json.loads(answer.body) if answer.body else None

    def _take(self, header: str, host: str) -> None:
        ((name, morsel),) = SimpleCookie(header).items()
        domain = morsel["domain"].lstrip(".")
        cookie = Cookie(name, f".{domain}" if domain else host, morsel["path"])
        if morsel["max-age"] == "0" or not morsel.value:
            self.cookies.pop(cookie, None)
        else:
            self.cookies[cookie] = morsel.value
