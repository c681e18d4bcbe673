"""A process that serves an application, and is deployed anew as often as it is told: run by ``processes.py``.

``PUT /deploy`` makes the application, from JSON: its settings, and what it imports.
"""

from __future__ import annotations

import typing as t

import served
from flask import Flask, Response

from flask_sessionstore import SessionManager
from flask_sessionstore.migrate import Importer, from_flask_session, from_store
from flask_sessionstore.stores import from_url


def make_app(settings: dict[str, t.Any], importing: dict[str, t.Any] | None = None) -> Flask:
    """The application under these settings.

    :param importing: another store's URL and options; as "former" the settings under which its cookies were made, or
        as "source" where Flask-Session's sessions are.
    """
    app = served.make_app(settings)
    SessionManager(app, import_session=[_importer(**importing)] if importing else [])
    return app


def _importer(
    url: str = "", former: dict[str, t.Any] | None = None, source: str | None = None, **options: t.Any
) -> Importer:
    if source is not None:
        return from_flask_session(source, **options)
    return from_store(from_url(url, **options), former=make_app(former) if former else None)


class _Deployed:
    """Hands requests to the application of the latest deployment."""

    app: Flask

    def __call__(self, environ: dict[str, t.Any], start_response: t.Any) -> t.Iterable[bytes]:
        if environ["PATH_INFO"] == "/deploy":
            self.app = make_app(**Flask("deploy").request_class(environ).get_json())
            return Response()(environ, start_response)
        return self.app(environ, start_response)


if __name__ == "__main__":
    served.serve(_Deployed())
