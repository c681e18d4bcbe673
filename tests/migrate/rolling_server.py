"""A process that serves an application, and is deployed anew as often as it is told: run by ``processes.py``.

It prints its port on 127.0.0.1. ``PUT /deploy`` makes the application, from JSON: its settings, and what it imports.
"""

from __future__ import annotations

import sys
import typing as t

from flask import Flask, Response, jsonify, request
from werkzeug.serving import WSGIRequestHandler, make_server

from flask_sessionstore import SessionManager, session
from flask_sessionstore.migrate import Importer, from_store
from flask_sessionstore.stores import from_url


def make_app(settings: dict[str, t.Any], importing: dict[str, t.Any] | None = None) -> Flask:
    """The application under these settings.

    :param importing: another store's URL and options; as "former" the settings under which its cookies were made.
    """
    app = Flask("rolling", instance_path="/nonexistent")
    app.config.update(settings)
    app.add_url_rule("/<path:path>", view_func=_act, methods=["GET", "POST"])
    SessionManager(app, import_session=[_importer(**importing)] if importing else [])
    return app


def _importer(url: str, former: dict[str, t.Any] | None = None, **options: t.Any) -> Importer:
    return from_store(from_url(url, **options), former=make_app(former) if former else None)


def _act(path: str) -> Response:
    """Do to the session what the path says, and show it; "untouched" does not even do that."""
    action = path.rpartition("/")[2]
    if action == "untouched":
        return Response()
    if action == "log-in":
        session.update(request.get_json())
    elif action == "count":
        session.update_or("n", 1, lambda n: n + 1)
    elif action == "log-out":
        session.clear()
    return jsonify(dict(session))


class _Deployed:
    """Hands requests to the application of the latest deployment."""

    app: Flask

    def __call__(self, environ: dict[str, t.Any], start_response: t.Any) -> t.Iterable[bytes]:
        if environ["PATH_INFO"] == "/deploy":
            self.app = make_app(**Flask("deploy").request_class(environ).get_json())
            return Response()(environ, start_response)
        return self.app(environ, start_response)


class _Quiet(WSGIRequestHandler):
    def log_request(self, *args: t.Any) -> None:
        pass


if __name__ == "__main__":
    server = make_server("127.0.0.1", 0, _Deployed(), threaded=True, request_handler=_Quiet)
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()
