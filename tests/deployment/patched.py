"""The demo among greenlets, its standard library patched before or after it was made and used. Run by test_patching.py:

    python patched.py gevent|eventlet before|after SETTINGS

It prints as JSON what went wrong, and two sums: how often visitors were told that they were counted, and the count.
Nothing that is to be patched is imported here before it is.
"""

from __future__ import annotations

import collections
import json
import sys
import typing as t

if t.TYPE_CHECKING:
    from flask import Flask

VISITORS, VISITS = 8, 12


def patch(library: str) -> None:
    if library == "gevent":
        from gevent import monkey

        monkey.patch_all()
    else:
        import eventlet

        eventlet.monkey_patch()


def run_all(library: str, calls: list[t.Callable[[], None]]) -> None:
    """Each in a greenlet; an exception of theirs is raised here."""
    if library == "gevent":
        import gevent

        gevent.joinall([gevent.spawn(call) for call in calls], raise_error=True)
    else:
        import eventlet

        for greenlet in [eventlet.spawn(call) for call in calls]:
            greenlet.wait()


class Crowd:
    """Visitors who each have a session, and one in which all of them count."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.shared = app.test_client()
        self.shared.post("/count")
        self.told = 1
        self.wrong: collections.Counter[str] = collections.Counter()

    def visit(self, user: str) -> None:
        own = self.app.test_client()
        self.expect(user, own.post(f"/login/{user}", data="a form").status_code == 200)
        for _ in range(VISITS):
            answer = own.get("/show")
            right = answer.status_code == 200 and answer.json["data"] == {"user": user}  # type: ignore[index]
            self.expect(f"{user} saw {answer.json or answer.status}", right)
            answer = self.shared.post("/count")
            self.expect(f"counting: {answer.status}", answer.status_code == 200)
            self.told += answer.status_code == 200

    def expect(self, what: str, right: bool) -> None:
        if not right:
            self.wrong[what] += 1


def make(settings: str) -> Crowd:
    import demo

    return Crowd(demo.make_app(**json.loads(settings)))


def main(library: str, when: str, settings: str) -> None:
    if when == "before":
        patch(library)
    crowd = make(settings)
    if when == "after":
        patch(library)
    run_all(library, [lambda user=f"user{number}": crowd.visit(user) for number in range(VISITORS)])  # type: ignore[misc]
    count = crowd.shared.get("/show").json["data"]["count"]  # type: ignore[index]
    json.dump({"wrong": crowd.wrong, "told": crowd.told, "count": count}, sys.stdout)


main(*sys.argv[1:])
