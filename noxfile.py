"""The commands of dev.py for those who have nox: ``nox``, ``nox -s test-3.12 -- -k cookie``, ``nox -s check``."""

import nox

nox.options.default_venv_backend = "venv"  # the kind that dev.py makes, and so does not make anew


@nox.session(python=["3.11", "3.12", "3.13"])
def test(session: nox.Session) -> None:
    """Run the tests on one version of Python."""
    dev(session, "test")


@nox.session
def check(session: nox.Session) -> None:
    """Run every check."""
    dev(session, "check")


def dev(session: nox.Session, command: str) -> None:
    """Run a command of dev.py in the session's environment."""
    session.run("python", "dev.py", command, *session.posargs, env={"SESSIONSTORE_VENV": session.virtualenv.location})
