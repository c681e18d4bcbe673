"""The project's commands, on a machine that has Python 3.11 or newer and nothing else.

python3 dev.py shop  [options of "flask run"]   the example shop, on http://127.0.0.1:5000
python3 dev.py test  [options of pytest]        the tests, with real servers of their own
python3 dev.py quick [options of pytest]        the tests that need no server, browser or other program
python3 dev.py foreign                          the suites of Flask and of three extensions, over our sessions
python3 dev.py deployment [options of pytest]   an application on every server that Flask runs on; needs a C compiler
python3 dev.py docs  [--port N] [--build]       the documentation, on http://127.0.0.1:8000, or built only
python3 dev.py check                            what CI checks besides: style, types, documentation, lock, wheel
python3 dev.py audit [options of pip-audit]     whether a version that CI installs has a known vulnerability
python3 dev.py lock                             write .ci/lock.txt anew, with the newest versions

Each makes the virtual environment .venv if there is none yet, and installs again only when pyproject.toml has
changed. SESSIONSTORE_VENV names another folder for the environment: .ci/run has one for each Python. SESSIONSTORE_WHEEL
names a wheel ("check" leaves one in dist) that the tests use in place of the checkout.
"""

import argparse
import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
import typing as t
import zipfile
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036 - an older Python gets as far as this
    sys.exit(f"dev.py needs Python 3.11 or newer; this is {platform.python_version()}. Try: python3.11 dev.py")

ROOT = Path(__file__).resolve().parent
VENV = Path(os.environ.get("SESSIONSTORE_VENV") or ROOT / ".venv").absolute()
WHEEL = os.environ.get("SESSIONSTORE_WHEEL", "")
PACKAGE = "flask_sessionstore"
BUILT = ROOT / "docs" / "_build"
LOCK = ROOT / ".ci" / "lock.txt"
BUDGETS = ROOT / "bench" / "budgets.toml"
SCRIPTS = VENV / ("Scripts" if os.name == "nt" else "bin")
QUIET_PIP = ("-m", "pip", "--disable-pip-version-check", "-q")


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
    install("drivers")
    return run("flask", "--app", "examples/shop", "run", *options)


def test(options: list[str]) -> int:
    """Run the tests, in two processes more than there are processors, since many wait; -n0 runs them in this one."""
    install("test")
    return run_tests("-n", str((os.cpu_count() or 1) + 2), *options)


def quick(options: list[str]) -> int:
    """Run the tests that need no server, in a process for each processor."""
    install("test")
    return run_tests("-n", str(os.cpu_count() or 1), "-m", "not slow and not server", *options)


def foreign(options: list[str]) -> int:
    """Run other people's tests with our sessions in every application, and compare with Flask's own."""
    install("test")
    return run_tests("-m", "foreign", "tests/foreign", *options)


def deployment(options: list[str]) -> int:
    """Try the servers and stores that CI tries together, in two processes, since a server has some of its own."""
    install("test", "deployment")
    return run_tests("-n", "2", "-m", "deployment", "tests/deployment", *options)


def docs(options: list[str]) -> int:
    """Build the documentation, and serve it unless it is only to be built."""
    parser = argparse.ArgumentParser("dev.py docs", description=docs.__doc__)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--build", action="store_true", help=f"only build it, in {BUILT.relative_to(ROOT)}")
    wanted = parser.parse_args(options)
    install("docs")
    failed = build_docs()
    if failed or wanted.build:
        return failed
    print(f"the documentation is on http://127.0.0.1:{wanted.port}; Ctrl-C ends it", flush=True)
    return run("python", "-m", "http.server", "--bind", "127.0.0.1", "-d", str(BUILT), str(wanted.port))


def build_docs() -> int:
    """Build the documentation; a warning is a failure."""
    return run("sphinx-build", "-q", "-W", "--keep-going", "-n", "docs", str(BUILT))


def check(_options: list[str]) -> int:
    """Run every check, and fail if one fails."""
    install("dev")
    checks = [
        run("ruff", "check"),
        run("ruff", "format", "--check"),
        run("mypy"),
        run("pyright", "--pythonpath", str(SCRIPTS / "python")),
        run("python", "typing_tests/pages.py"),
        build_docs(),
        check_lock(),
        check_budgets(),
        check_wheel(),
    ]
    return int(any(checks))


def check_lock() -> int:
    """Look whether the lock is one for pyproject.toml; newer versions than it names are no matter."""
    with tempfile.TemporaryDirectory() as folder:
        anew = Path(shutil.copy(LOCK, folder))  # a version that it names stays if it may
        if write_lock(anew):
            return 1
        missing = pins(anew) - pins(LOCK)
    if missing:
        print(f"{LOCK.name} does not satisfy pyproject.toml, which wants: {', '.join(sorted(missing))}.")
        print("python3 dev.py lock writes it anew.")
    return int(bool(missing))


def check_budgets() -> int:
    """Look whether the budgets of instructions are for the versions in the lock, which CI compares them on."""
    _interpreter, *packages = tomllib.loads(BUDGETS.read_text())["measured"]
    locked = {pin.partition(" ;")[0] for pin in pins(LOCK)}
    others = [package for package in packages if package.replace(" ", "==") not in locked]
    if others:
        print(f"{BUDGETS.name} was measured with {', '.join(others)}, which {LOCK.name} does not name.")
        print("python -m bench --instructions --record measures anew; CONTRIBUTING.rst says where.")
    return int(bool(others))


def check_wheel() -> int:
    """Build the wheel, and look whether it holds the package and its types, and nothing else; it stays in dist."""
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    if run("python", *QUIET_PIP, "wheel", "--no-deps", "-w", "dist", "."):
        return 1
    with zipfile.ZipFile(next(ROOT.glob("dist/*.whl"))) as wheel:
        names = wheel.namelist()
    strays = [name for name in names if not name.startswith((f"{PACKAGE}/", f"{PACKAGE}-"))]
    if strays or f"{PACKAGE}/py.typed" not in names:
        print(f"the wheel lacks {PACKAGE}/py.typed, or has what does not belong there: {strays}")
        return 1
    return 0


def lock(_options: list[str]) -> int:
    """Write the lock anew, with the newest versions that pyproject.toml allows."""
    install("dev")
    return write_lock(LOCK, "--upgrade")


def write_lock(path: Path, *options: str) -> int:
    """Write a lock for every Python and system; without options, versions that stand there stay if they may."""
    groups = ["--all-extras", "--group", "dev", "--group", "deployment"]
    form = ["--universal", "--generate-hashes", "--no-annotate", "--custom-compile-command", "python3 dev.py lock"]
    return run("uv", "pip", "compile", "-q", "pyproject.toml", *groups, *form, *options, "-o", str(path))


def pins(path: Path) -> set[str]:
    """What a lock names: versions and for which Pythons, without their hashes."""
    return {line.rstrip(" \\") for line in path.read_text().splitlines() if "==" in line}


def audit(options: list[str]) -> int:
    """Look for known vulnerabilities of what the lock names; where nobody can be asked, say so and pass."""
    install("dev")
    arguments = ["--disable-pip", "--progress-spinner=off", "--format=json", f"--requirement={LOCK}", *options]
    print("+", shlex.join(["pip-audit", *arguments]), flush=True)
    done = subprocess.run([SCRIPTS / "pip-audit", *arguments], capture_output=True, text=True, check=False)
    if done.stdout:
        return report(json.loads(done.stdout)["dependencies"])
    return report_failure(done.stderr)


def report(packages: list[dict[str, t.Any]]) -> int:
    """Print what is known of these packages, as pip-audit has them; the result is an exit code."""
    asked = [package for package in packages if "skip_reason" not in package]
    found = [(package, hole) for package in asked for hole in package["vulns"]]
    for package, hole in found:
        fixed = ", ".join(hole["fix_versions"]) or "no version yet"
        print(f"{package['name']} {package['version']}: {hole['id']}, mended in {fixed}. {hole['description']}")
    if asked:
        print(f"packages looked up: {len(asked)} of {len(packages)}; known vulnerabilities: {len(found)}")
    else:
        print("no vulnerability was looked up: the index has no answer about any package")
    return int(bool(found))


def report_failure(stderr: str) -> int:
    """Print why pip-audit has no report; it is a failure unless nobody could be reached."""
    reason = stderr.strip().rpartition("\n")[2]
    if re.search("connect|timeout|ServiceError", reason, re.IGNORECASE):
        print(f"no vulnerability was looked up: {reason}")
        return 0
    print(stderr)
    return 1


COMMANDS: dict[str, t.Callable[[list[str]], int]] = {
    "shop": shop,
    "test": test,
    "quick": quick,
    "foreign": foreign,
    "deployment": deployment,
    "docs": docs,
    "check": check,
    "audit": audit,
    "lock": lock,
}


def run(program: str, *arguments: str, cwd: Path = ROOT, **variables: str) -> int:
    """Run a program of the environment in the project's folder; the result is its exit code."""
    print("+", shlex.join([program, *arguments]), flush=True)
    environment = {**os.environ, **variables}
    return subprocess.run([SCRIPTS / program, *arguments], cwd=cwd, env=environment, check=False).returncode


def run_tests(*options: str) -> int:
    """Run pytest where it finds the package that is to be tested, and no other."""
    folder = without_package() if WHEEL else ROOT
    # What is compiled is kept, whatever is usual here: to compile the tests takes each of the processes ten seconds.
    return check_source(folder) or run("pytest", *options, cwd=folder, PYTHONDONTWRITEBYTECODE="")


def without_package() -> Path:
    """Copy the project without the package: whatever a test starts there can only import what is installed."""
    folder = VENV / "project"
    for path in folder.rglob("*"):  # of an earlier copy; what was compiled from it stays
        if path.is_file() and path.suffix != ".pyc" and not (ROOT / path.relative_to(folder)).exists():
            path.unlink()
    ignored = shutil.ignore_patterns(PACKAGE, ".*", "__pycache__", "_build")
    return shutil.copytree(ROOT, folder, ignore=ignored, dirs_exist_ok=True)


def check_source(folder: Path) -> int:
    """Look whether a program that is started in this folder imports the wheel from the environment, if there is one."""
    if not WHEEL:
        return 0
    code = f"import {PACKAGE}; print({PACKAGE}.__file__)"
    said = subprocess.run([SCRIPTS / "python", "-c", code], cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    found = Path(said.stdout.strip())
    if found.is_relative_to(VENV) and not found.is_relative_to(folder):
        return 0
    print(f"the tests are to import {PACKAGE} from the wheel in {VENV}, and would import {found}")
    return 1


def install(*groups: str) -> None:
    """Install these dependency groups, and the project: the wheel, or the checkout, editable, unless it is there."""
    make_environment()
    wanted = f"# {source()}\n{(ROOT / 'pyproject.toml').read_text()}"
    stamp = VENV / f"installed-{'-'.join(groups)}.toml"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print(f"+ installing {WHEEL or ROOT} and {', '.join(groups)}; it takes a minute or two", flush=True)
    for other in VENV.glob("installed-*.toml"):
        if other.read_text() != wanted:  # of another wheel, or the checkout, which will not be installed any more
            other.unlink()
    pip_install("pip>=26.2", PIP_CONSTRAINT="")  # knows groups and hashes in constraints; an older one fails on those
    pip_install(WHEEL or f"--editable={ROOT}", *(f"--group={group}" for group in groups))
    if WHEEL:  # once more: pip keeps another of the same version
        pip_install("--force-reinstall", "--no-deps", WHEEL)
    stamp.write_text(wanted)


def source() -> str:
    """What is installed of the project: a wheel, by its contents, or the checkout."""
    return hashlib.sha256(Path(WHEEL).read_bytes()).hexdigest() if WHEEL else "the checkout"


def pip_install(*arguments: str, **variables: str) -> None:
    """Install with the environment's pip, which these variables set up."""
    command: list[str | Path] = [SCRIPTS / "python", *QUIET_PIP, "install", *arguments]
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, **variables}) as pip:
        wait_for(pip)
    if pip.returncode:
        raise subprocess.CalledProcessError(pip.returncode, command)


def wait_for(program: subprocess.Popen[bytes]) -> None:
    """Wait for a program that prints nothing, and print a dot for every two seconds."""
    dots = 0
    while True:
        try:
            program.wait(timeout=2)
            break
        except subprocess.TimeoutExpired:
            dots += 1
            print(".", end="", flush=True)
    if dots:
        print(flush=True)


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
