"""The demo in three processes that were forked in C, as uWSGI does it, after it was used. Run by test_forks.py.

It prints as JSON what went wrong, and two sums: how often visitors were told that they were counted, and the count.
"""

from __future__ import annotations

import collections
import ctypes
import json
import os
import sys
import typing as t

import demo

if t.TYPE_CHECKING:
    from flask.testing import FlaskClient

VISITORS, VISITS = ("ada", "bob", "cy"), 200


def visit(user: str, own: FlaskClient, shared: FlaskClient) -> dict[str, t.Any]:
    """Ask who one is, and count in a session that all have."""
    wrong: collections.Counter[str] = collections.Counter()
    counted = 0
    for _ in range(VISITS):
        answer = own.get("/show")
        if answer.status_code != 200 or answer.json["data"] != {"user": user}:  # type: ignore[index]
            wrong[f"{user} saw {answer.json or answer.status}"] += 1
        answer = shared.post("/count")
        if answer.status_code == 200:
            counted += 1
        else:
            wrong[f"counting: {answer.status}"] += 1
    return {"wrong": wrong, "counted": counted}


def in_a_fork(call: t.Callable[[], t.Any]) -> int:
    """Call in a process of its own, of which Python is told nothing; its result comes out of this descriptor."""
    reading, writing = os.pipe()
    if ctypes.PyDLL(None).fork() == 0:
        try:
            os.write(writing, json.dumps(call()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    return reading


def main(settings: str) -> None:
    app = demo.make_app(**json.loads(settings))
    browsers = {user: app.test_client() for user in VISITORS}
    for user, browser in browsers.items():
        browser.post(f"/login/{user}", data="a form")
    shared = app.test_client()
    shared.post("/count")
    (first, own), *others = browsers.items()
    pipes = [in_a_fork(lambda user=user, own=own: visit(user, own, shared)) for user, own in others]  # type: ignore[misc]
    results = [visit(first, own, shared)]
    for pipe in pipes:
        with os.fdopen(pipe) as file:
            results.append(json.load(file))
    wrong = sum((collections.Counter(result["wrong"]) for result in results), collections.Counter())
    shared.post("/count")  # whoever writes reads all that others wrote, past any cache
    told = 2 + sum(result["counted"] for result in results)
    count = shared.get("/show").json["data"]["count"]  # type: ignore[index]
    json.dump({"wrong": wrong, "told": told, "count": count}, sys.stdout)


main(sys.argv[1])
