"""The answer if the store fails where Flask would answer with 500: a 503."""

from __future__ import annotations

import contextlib
import functools
import typing as t
import weakref

from flask import Flask
from flask.wrappers import Response

from .errors import StoreUnavailable


def answer_as_in_views(app: Flask) -> None:
    """Answer a :exc:`StoreUnavailable` raised in ``after_request``, or in a handler of errors, as one from a view.

    An error handler for InternalServerError would not do: it comes before the application's own for HTTPException and
    Exception.
    """
    reference = weakref.ref(app)  # an application that refers to itself would not go when its last user goes
    other = vars(app).get("handle_exception")  # of another extension

    def handle_exception(*arguments: t.Any) -> t.Any:
        app: t.Any = reference()  # not Flask's types: from Flask 3.2 on, a context comes before the other arguments
        handle = other or functools.partial(type(app).handle_exception, app)
        *context, error = arguments
        if not isinstance(error, StoreUnavailable) or propagates(app):
            return handle(*arguments)
        response = app.make_response(error)
        try:
            with contextlib.suppress(StoreUnavailable):  # the application's handler reads the session, too
                response = app.make_response(app.handle_user_exception(*context, error))
            return app.finalize_request(*context, response)
        except StoreUnavailable:  # after_request does again
            return response
        except Exception as another:  # noqa: BLE001  - whatever the application raises now
            return handle(*context, another)

    app.handle_exception = handle_exception  # type: ignore[method-assign, assignment]


def propagates(app: Flask) -> bool:
    """Whether exceptions reach the server, or the test, as they are."""
    propagate = app.config["PROPAGATE_EXCEPTIONS"]
    return bool(app.testing or app.debug if propagate is None else propagate)


def turn_into_503(error: StoreUnavailable, response: Response) -> None:
    """Change the response into a 503, in place, since it exists already. From the exception Flask would make a 500."""
    close = getattr(response.response, "close", None)  # only the body: the server will close the response itself
    if close is not None:
        close()
    unavailable = error.get_response()
    for name in {name for name, _ in response.headers if _is_of_the_body(name)}:
        response.headers.remove(name)
    response.status_code = unavailable.status_code
    response.headers.extend(unavailable.headers)
    response.direct_passthrough = False
    response.set_data(unavailable.get_data())


# Headers about the body that the 503 replaces, or about the response as a whole: its location, how long it is valid.
_OF_THE_BODY = frozenset(
    {"etag", "last-modified", "accept-ranges", "transfer-encoding", "trailer", "digest", "repr-digest", "location"}
    | {"refresh", "cache-control", "expires", "pragma", "age", "cdn-cache-control", "surrogate-control", "retry-after"}
)


def _is_of_the_body(name: str) -> bool:
    name = name.lower()
    return name in _OF_THE_BODY or (name.startswith("content-") and not name.startswith("content-security-policy"))
