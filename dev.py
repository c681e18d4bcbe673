"""The project's commands, on a machine that has Python 3.11 or newer and nothing else.

python3 dev.py shop  [options of "flask run"]   the example shop, on http://127.0.0.1:5000
python3 dev.py test  [options of pytest]        the tests, with real servers of their own
python3 dev.py foreign                          the suites of Flask, Flask-Login and Flask-WTF, over our sessions
python3 dev.py deployment [options of pytest]   an application on every server that Flask runs on; needs a C compiler
python3 dev.py check                            what CI checks besides: style, types, documentation, wheel

Each makes the virtual environment .venv if there is none yet, and installs again only when pyproject.toml has
changed. SESSIONSTORE_VENV names another folder for the environment: .ci/run has one for each Python.
"""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
import tempfile
import tomllib
import typing as t
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = Path(os.environ.get("SESSIONSTORE_VENV") or ROOT / ".venv").absolute()
EXTRAS = ["crypto", "dynamodb", "memcached", "mongodb", "mysql", "postgresql", "redis", "sqlalchemy", "testing"]
SCRIPTS = VENV / ("Scripts" if os.name == "nt" else "bin")


def main(arguments: list[str]) -> int:
    """Run one command; the result is its exit code."""
    command = COMMANDS.get(arguments[0]) if arguments else None
    if command is None:
        print(__doc__)
        return 2
    try:
        return command(arguments[1:])
    except subprocess.CalledProcessError as error:  # has said itself what is wrong
        return error.returncode
    except KeyboardInterrupt:
        return 130


def shop(options: list[str]) -> int:
    """Serve the example shop."""
    install(extras=["redis"])
    return run("flask", "--app", "examples/shop", "run", *options)


def test(options: list[str]) -> int:
    """Run the tests, in one process more than there are processors, since some only wait; -n0 runs them in this one."""
    install(extras=EXTRAS, groups=["test"])
    return run("pytest", "-n", str((os.cpu_count() or 1) + 1), *options)


def foreign(options: list[str]) -> int:
    """Run other people's tests with our sessions in every application, and compare with Flask's own."""
    install(extras=EXTRAS, groups=["test"])
    return run("pytest", "-m", "foreign", "tests/foreign", *options)


def deployment(options: list[str]) -> int:
    """Try the servers and stores that CI tries together, in two processes, since a server has some of its own."""
    install(extras=EXTRAS, groups=["test", "deployment"])
    return run("pytest", "-n", "2", "-m", "deployment", "tests/deployment", *options)


def check(_options: list[str]) -> int:
    """Run every check, and fail if one fails."""
    install(extras=EXTRAS, groups=["test", "check"])
    checks = [
        run("ruff", "check"),
        run("ruff", "format", "--check"),
        run("mypy"),
        run("pyright", "--pythonpath", str(SCRIPTS / "python")),
        run("sphinx-build", "-q", "-W", "-n", "docs", "docs/_build"),
        check_wheel(),
    ]
    return int(any(checks))


def check_wheel() -> int:
    """Build the wheel, and look whether it holds the package and its types, and nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        if code := run("python", "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, "."):
            return code
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            names = wheel.namelist()
    strays = [name for name in names if not name.startswith(("flask_sessionstore/", "flask_sessionstore-"))]
    if strays or "flask_sessionstore/py.typed" not in names:
        print(f"the wheel lacks flask_sessionstore/py.typed, or has what does not belong there: {strays}")
        return 1
    return 0


COMMANDS: dict[str, t.Callable[[list[str]], int]] = {
    "shop": shop,
    "test": test,
    "foreign": foreign,
    "deployment": deployment,
    "check": check,
}


def run(program: str, *arguments: str) -> int:
    """Run a program of the environment in the project's folder; the result is its exit code."""
    print("+", shlex.join([program, *arguments]), flush=True)
    return subprocess.run([SCRIPTS / program, *arguments], cwd=ROOT, check=False).returncode


def install(*, extras: list[str], groups: t.Sequence[str] = ()) -> None:
    """Install the project, editable, with these extras and dependency groups, if they are not there yet."""
    make_environment()
    project = (ROOT / "pyproject.toml").read_text()
    stamp = VENV / f"installed-{'-'.join([*extras, *groups])}.toml"
    if stamp.exists() and stamp.read_text() == project:
        return
    table = tomllib.loads(project)["dependency-groups"]
    requirements = [requirement for group in groups for requirement in table[group]]
    editable = f"{ROOT}[{','.join(extras)}]"
    print("+ installing", editable, *requirements, flush=True)
    pip = [str(SCRIPTS / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "--editable", editable, *requirements], check=True)
    stamp.write_text(project)


def make_environment() -> None:
    """Make the virtual environment, unless one was made here, by this version of Python, to the end."""
    config = VENV / "pyvenv.cfg"
    made = config.read_text() if config.exists() else ""
    here = f" {VENV}\n" in made  # else it was copied or moved, and its scripts lead elsewhere
    if here and f"version = {platform.python_version()}\n" in made and any(SCRIPTS.glob("pip3*")):
        return
    if VENV.exists() and not made:
        sys.exit(f"{VENV} is no virtual environment: remove it, or name another folder in SESSIONSTORE_VENV")
    print("+ making the virtual environment", VENV, flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
