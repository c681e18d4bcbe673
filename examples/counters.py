"""Counters that lose nothing, however many requests of one browser run at the same time.

``session["n"] += 1`` reads, adds and stores: if another request stores in between, one count is lost.
``update_or`` remembers the function, not its result: if another request was first, the function is called
again, with the newest value, when the session is stored. So every call counts; but it must only compute.

To see it: flask --app examples/counters race
"""

import secrets
import threading

import click
from flask import Flask

from flask_sessionstore import SessionManager, session

app = Flask(__name__)
app.config.update(SECRET_KEY=secrets.token_hex(), SESSION_STORE="memory:")  # both are gone when this process ends
SessionManager(app)

AT_ONCE = 8
everybody_has_read = threading.Barrier(AT_ONCE)


@app.get("/")
def show() -> dict[str, int]:
    return {"exact": session.get("exact", 0), "naive": session.get("naive", 0)}


@app.post("/")
def count() -> str:
    session.update_or("exact", 1, lambda n: n + 1)
    session["naive"] = session.get("naive", 0) + 1
    everybody_has_read.wait(10)  # the worst case, on purpose: all requests read before one stores
    return ""


@app.cli.command()
def race() -> None:
    """Let one browser send all requests at the same time, and show the results of both ways of counting."""
    browser = app.test_client()
    with browser.session_transaction() as kept:
        kept["exact"] = kept["naive"] = 0
    cookie = browser.get_cookie("session")
    headers = {"Cookie": f"session={cookie.value}"} if cookie else {}
    requests = [
        threading.Thread(target=lambda: app.test_client(use_cookies=False).post("/", headers=headers))
        for _ in range(AT_ONCE)
    ]
    for request in requests:
        request.start()
    for request in requests:
        request.join()
    click.echo(browser.get("/").json)
