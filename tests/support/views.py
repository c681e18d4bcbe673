"""Bodies of views, for ``browser.does(write)``."""

from __future__ import annotations

import typing as t

from flask_sessionstore import session


def write() -> None:
    session["a"] = 2


def read() -> None:
    session.get("a")


def force() -> None:
    session.modified = True


def make_permanent() -> None:
    session.permanent = True


def remove_all() -> None:
    for key in list(session):
        del session[key]


def clear() -> None:
    session.clear()


def purge() -> None:
    session.purge()


def renew() -> None:
    session.renew()


def save() -> None:
    session.save()


def nothing() -> None:
    pass


def sign_in() -> None:
    session["_user_id"] = "ann"


def count() -> None:
    session.update_or("n", 1, lambda n: n + 1)


def assign(**data: object) -> t.Callable[[], None]:
    return lambda: session.update(data)


def add_one() -> None:
    """Count as an application does that does not know this package."""
    session["n"] = session.get("n", 0) + 1
