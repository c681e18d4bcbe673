"""The servers that Flask runs on, each serving the demo on a free port of the loopback interface."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import typing as t
from contextlib import suppress
from pathlib import Path

import demo
from redis_clusters import until
from servers import APACHE, Server, leashed, program

import flask_sessionstore

HERE = Path(__file__).parent
PACKAGE = Path(flask_sessionstore.__file__).parents[1]


class WebServer(Server):
    """A server with the demo in it.

    :param settings: those of :func:`demo.make_app`; "{folder}" in them stands for one of its own.
    :param processes: how many of them serve.
    :param options: further words of its command line.
    """

    leash = leashed("TERM")  # so that it ends its workers, which nothing else would
    #: As in :data:`servers.OTHERS`.
    name: t.ClassVar[str]

    def __init__(self, settings: dict[str, t.Any], processes: int, *options: str) -> None:
        super().__init__(program(self.name))
        self.instance = self.folder / "instance"
        self.instance.mkdir()
        self.settings = settings
        self.processes = processes
        self.options = options

    def environment(self) -> dict[str, str]:
        """The variables for the demo."""
        settings = json.dumps(self.settings).replace("{folder}", str(self.instance))
        return {demo.SETTINGS: settings, "PYTHONPATH": f"{PACKAGE}:{HERE}"}

    def with_environment(self, *command: str | Path) -> list[str | Path]:
        cleared = [f"--unset={name}" for name in os.environ if name.startswith(("FLASK_", "GUNICORN_", "UWSGI_"))]
        return ["env", *cleared, *(f"{name}={value}" for name, value in self.environment().items()), *command]

    def start(self) -> None:
        super().start()
        until(self._accepts)  # some say that they are ready just before they listen

    def _accepts(self) -> bool:
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", self.port), timeout=10):
            return True
        return False

    def close(self) -> None:
        """End it with all its workers, those included that it has lost."""
        with suppress(subprocess.TimeoutExpired):
            self.stop()
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        super().close()


class Gunicorn(WebServer):
    name, ready = "gunicorn", "Booting worker"

    def command(self, port: int) -> list[str | Path]:
        words = ["--bind", f"127.0.0.1:{port}", "--workers", str(self.processes), "--no-control-socket"]
        return self.with_environment(sys.executable, "-m", "gunicorn", *words, *self.options, "demo:app")


class GunicornGevent(Gunicorn):
    name = "gunicorn-gevent"


class GunicornEventlet(Gunicorn):
    """The last release that has eventlet's workers, from a folder of its own."""

    name = "gunicorn-eventlet"

    def environment(self) -> dict[str, str]:
        variables = super().environment()
        return {**variables, "PYTHONPATH": f"{self.program}:{variables['PYTHONPATH']}"}


class UWSGI(WebServer):
    name, ready = "uwsgi", "spawned uWSGI worker 1 "

    def command(self, port: int) -> list[str | Path]:
        words = [
            "--http-socket", f"127.0.0.1:{port}", "--master", "--processes", str(self.processes),
            "--virtualenv", sys.prefix, "--module", "demo:app", "--need-app", "--die-on-term", "--disable-logging",
        ]  # fmt: skip
        return self.with_environment(self.program, *words, *self.options)


class Waitress(WebServer):
    name, ready = "waitress", "Serving on"

    def command(self, port: int) -> list[str | Path]:
        words = ["--listen", f"127.0.0.1:{port}", *self.options, "demo:app"]
        return self.with_environment(sys.executable, "-m", "waitress", *words)


class Hypercorn(WebServer):
    """:param options: the name of the application in demo_asgi, and words for the command line."""

    name, ready = "hypercorn", "Running on"

    def command(self, port: int) -> list[str | Path]:
        words = ["--bind", f"127.0.0.1:{port}", "--workers", str(self.processes), *self.options]
        return self.with_environment(sys.executable, "-m", "hypercorn", *words)


class Uvicorn(WebServer):
    """:param options: as for Hypercorn."""

    name, ready = "uvicorn", "Application startup complete"

    def command(self, port: int) -> list[str | Path]:
        words = ["--port", str(port), "--workers", str(self.processes), *self.options]
        return self.with_environment(sys.executable, "-m", "uvicorn", *words)


class ModWSGI(WebServer):
    """Debian's Apache with Debian's Python, as Debian's account; a folder has what the demo imports.

    :param options: lines of the configuration.
    """

    name, ready, account = "mod_wsgi", "resuming normal operations", "www-data"

    def install(self) -> None:
        libraries = program("mod_wsgi-libraries")
        for name, folder in {"site": libraries, "demo": HERE}.items():
            shutil.copytree(folder, self.folder / name, symlinks=True)  # where any account may read it
        shutil.copytree(PACKAGE / "flask_sessionstore", self.folder / "site" / "flask_sessionstore")
        shutil.chown(self.instance, self.account)
        (self.folder / "apache.conf").write_text(self.configuration())

    def configuration(self) -> str:
        folder, modules = self.folder, ("mpm_event", "authz_core", "wsgi")
        path = f"{folder}/site:{folder}/demo"
        # Its log goes through a program, since its own account may not open what is ours.
        return "\n".join([
            *(f"LoadModule {name}_module {APACHE}/mod_{name}.so" for name in modules),
            f"ServerRoot {folder}", f"DefaultRuntimeDir {folder}", f"PidFile {folder}/pid", "ServerName demo",
            'ErrorLog "|/bin/cat"', "Listen 127.0.0.1:${PORT}", "<Directory />", "Require all granted", "</Directory>",
            f"WSGIScriptAlias / {folder}/demo/demo.py", "WSGICallableObject app", f"WSGISocketPrefix {folder}/wsgi",
            f"WSGIPythonPath {path}", *(line.format(path=path) for line in self.options), "",
        ])  # fmt: skip

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "PORT": str(self.port), "PYTHONPATH": ""}

    def command(self, port: int) -> list[str | Path]:
        self.port = port
        return self.with_environment(self.program, "-DFOREGROUND", "-f", self.folder / "apache.conf", "-e", "info")


class Nginx(WebServer):
    """nginx, as an account without rights, in front of gunicorn, which the settings and options are for."""

    name, ready, account = "nginx", "start worker process", "www-data"

    def install(self) -> None:
        self.behind = Gunicorn(self.settings, self.processes, *self.options)
        self.behind.instance = self.instance
        self.behind.__enter__()

    def close(self) -> None:
        with suppress(AttributeError):  # it may not have come so far
            self.behind.close()
        super().close()

    def command(self, port: int) -> list[str | Path]:
        (self.folder / "nginx.conf").write_text(
            f"daemon off; pid {self.folder}/pid; error_log stderr notice; worker_processes 2;\n"
            "events {}\n"
            "http { access_log off; "
            + "".join(
                f"{kind}_temp_path {self.folder}/{kind}; "
                for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            )
            + f"server {{ listen 127.0.0.1:{port};\n"
            f"location / {{ proxy_pass http://127.0.0.1:{self.behind.port}; proxy_set_header Host $host; }} }} }}\n"
        )
        return [self.program, "-p", self.folder, "-c", self.folder / "nginx.conf", "-e", "stderr"]
