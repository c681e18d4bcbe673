"""A dozen browsers with three requests at once each, and what they find wrong.

Each knows what it was promised: whoever is answered 200 has written, has signed in or has logged out. They go through
the same steps together, two of them are the same user's, and everything that they are told must be their own.
"""

from __future__ import annotations

import functools
import http.client
import json
import threading
import typing as t
from concurrent.futures import ThreadPoolExecutor

from places import Abilities

BROWSERS, AT_ONCE = 12, 3


class Answer(t.NamedTuple):
    """Of the server."""

    status: int
    body: t.Any
    #: What it set the cookie to: None for nothing, "" if it deleted it.
    cookie: str | None

    @property
    def data(self) -> dict[str, t.Any]:
        """All that the session holds, of an answer to "show"."""
        return self.body["data"] if self.status == 200 else {}


def request(port: int, method: str, path: str, cookie: str) -> Answer:
    """One request, on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"Cookie": f"session={cookie}"} if cookie else {}
    try:
        connection.request(method, path, body="a form" if method == "POST" else None, headers=headers)
        response = connection.getresponse()
        text = response.read()
    finally:
        connection.close()
    body = json.loads(text) if response.status == 200 else None
    return Answer(response.status, body, cookie_in(response.headers.get_all("Set-Cookie") or []))


def cookie_in(headers: list[str]) -> str | None:
    for header in headers:
        pair, _, _ = header.partition(";")
        name, _, value = pair.partition("=")
        if name == "session":
            return value
    return None


class Browser:
    """Keeps its cookie, remembers what it was promised, and writes down what was wrong."""

    def __init__(self, port: int, name: str, user: str, abilities: Abilities, wrong: list[str]) -> None:
        self.port, self.name, self.user, self.abilities, self._wrong = port, name, user, abilities, wrong
        self.cookie = ""
        self.handle: str | None = None
        self.promised: dict[str, t.Any] = {}
        self.counted: list[bool] = []

    def expect(self, right: bool, step: str, found: object) -> None:
        if not right:
            self._wrong.append(f"{self.name} ({self.user}), {step}: {found}")

    def ask(self, path: str, method: str = "GET", cookie: str | None = None) -> Answer:
        """One request, with the newest cookie or a given one; an answer other than 200 is wrong."""
        try:
            answer = request(self.port, method, path, self.cookie if cookie is None else cookie)
        except (OSError, http.client.HTTPException) as error:
            answer = Answer(0, repr(error), None)
        self.expect(answer.status == 200, path, answer.status or answer.body)
        if answer.cookie is not None and cookie is None:
            self.cookie = answer.cookie
        return answer

    def post(self, path: str, **promised: t.Any) -> None:
        """A write, and what is promised if it is acknowledged."""
        if self.ask(path, "POST").status == 200:
            self.promised.update(promised)

    def at_once(self, *calls: t.Callable[[], object]) -> None:
        if self.abilities.merges:
            with ThreadPoolExecutor(AT_ONCE) as threads:
                list(threads.map(lambda call: call(), calls))
        else:
            for call in calls:
                call()

    # -- steps -----------------------------------------------------------------------------------------------------

    def fill_cart(self) -> None:
        """Nobody yet."""
        self.post(f"/put/tag/{self.name}", tag=self.name)
        self.work("a")

    def work(self, word: str) -> None:
        """Writes that have to merge, and a counter."""
        for number in range(3):
            item = f"{word}{number}"
            self.at_once(self.count, functools.partial(self.put, item), self.look)
            self.at_once(self.count, self.count, self.look)
        self.count()
        self.check("after its writes")

    def count(self) -> None:
        if self.ask("/count", "POST").status == 200:
            self.counted.append(True)  # in one step, which a sum is not

    def put(self, item: str) -> None:
        self.post(f"/put/{item}/{self.name}", **{item: self.name})

    def look(self) -> None:
        """While others write: never what is another's."""
        data = self.ask("/show").data
        own = all(value in (self.name, self.user) for name, value in data.items() if name != "count")
        self.expect(own, "looking", data)

    def check(self, step: str) -> None:
        """All that it was promised, and nothing else."""
        answer = self.ask("/show")
        if self.counted:
            self.promised["count"] = len(self.counted)
        if answer.status == 200:
            self.handle = answer.body["handle"]
            self.expect(answer.data == self.promised, step, f"{answer.data} instead of {self.promised}")

    def sign_in(self) -> None:
        before = self.cookie
        self.at_once(lambda: self.post(f"/login/{self.user}", user=self.user), self.look, self.look)
        self.check("signed in")
        self.is_dead(before, "its cookie from before it signed in")
        self.work("b")

    def meet(self, others: list[Browser]) -> None:
        """The devices are those of this user, all of them and nobody else's."""
        answer = self.ask("/devices")
        theirs = {one.handle for one in others if one.user == self.user}
        if answer.status == 200:
            self.expect(set(answer.body) == theirs, "its devices", f"{answer.body} instead of {theirs}")

    def end_other(self, others: list[Browser]) -> None:
        """One of the two signs the other one out."""
        first, second = (one for one in others if one.user == self.user)
        if self is first:
            answer = self.ask(f"/end/{second.handle}", "POST")
            self.expect(answer.body == {"done": True}, "ending another device", answer.body)
            second.is_dead(second.cookie, "its cookie after it was signed out elsewhere")
            second.cookie = ""

    def log_out(self) -> None:
        if before := self.cookie:
            self.at_once(lambda: self.ask("/logout", "POST"), self.look, self.look)
            self.is_dead(before, "its cookie from before it logged out")
        self.promised.clear()
        self.counted.clear()
        self.expect(self.cookie == "", "logged out", "it still has a cookie")
        self.check("logged out")

    def is_dead(self, cookie: str, what: str) -> None:
        """An old cookie is nobody's, whatever is done with it."""
        if not self.abilities.ends:
            return
        threading.Event().wait(self.abilities.lag)
        first = self.ask("/show", cookie=cookie)
        self.ask("/count", "POST", cookie)
        second = self.ask("/show", cookie=cookie)
        self.expect(not first.data and not second.data, what, (first.data, second.data))


def visit(port: int, abilities: Abilities) -> list[str]:
    """Let them all visit the demo on this port; the result is what was wrong in the first step that went wrong."""
    wrong: list[str] = []
    browsers = [Browser(port, f"b{number}", f"user{number // 2}", abilities, wrong) for number in range(BROWSERS)]
    with ThreadPoolExecutor(BROWSERS) as threads:
        for step in steps(browsers, abilities):
            list(threads.map(step, browsers))
            if wrong:
                break
    return wrong


def steps(browsers: list[Browser], abilities: Abilities) -> t.Iterator[t.Callable[[Browser], None]]:
    """What they do, each step of all of them before the next one."""
    yield Browser.fill_cart
    yield Browser.sign_in
    if abilities.lists:
        yield functools.partial(Browser.meet, others=browsers)
    if abilities.ends:
        yield functools.partial(Browser.end_other, others=browsers)
    yield Browser.log_out
