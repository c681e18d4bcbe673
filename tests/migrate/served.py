"""What the processes have in common that answer in turn: the views, and how they serve. It knows Flask's session only:
some of the environments that run it have Flask-Session, and not this package.
"""

from __future__ import annotations

import sys
import typing as t

from flask import Flask, Response, jsonify, request, session
from werkzeug.serving import WSGIRequestHandler, make_server


def make_app(settings: dict[str, t.Any]) -> Flask:
    """An application, without its sessions."""
    app = Flask("served", instance_path="/nonexistent")
    app.config.update(settings)
    app.add_url_rule("/<path:path>", view_func=_act, methods=["GET", "POST"])
    return app


def _act(path: str) -> Response:
    """Do to the session what the path says, and show it; "untouched" does not even do that."""
    action = path.rpartition("/")[2]
    if action == "untouched":
        return Response()
    if action == "log-in":
        session.update(t.cast("dict[str, t.Any]", request.get_json()))
    elif action == "count":
        session["n"] = session.get("n", 0) + 1
    elif action == "log-out":
        session.clear()
    return jsonify(dict(session))


class _Quiet(WSGIRequestHandler):
    def log_request(self, *args: t.Any) -> None:
        pass


def serve(application: t.Any) -> None:
    """Serve it for ever, on a port of 127.0.0.1 that is printed."""
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=_Quiet)
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()
