"""What modules say that they export is there."""

from __future__ import annotations

import importlib
import pkgutil
from importlib import metadata

import pytest

import flask_sessionstore

MODULES = [module.name for module in pkgutil.walk_packages(flask_sessionstore.__path__, "flask_sessionstore.")]


@pytest.mark.parametrize("name", ["flask_sessionstore", *MODULES])
def test_every_name_in_all_is_there_and_is_there_once(name: str) -> None:
    module = importlib.import_module(name)
    exported = list(getattr(module, "__all__", ()))
    assert [missing for missing in exported if not hasattr(module, missing)] == []
    assert len(set(exported)) == len(exported)


def test_the_version_is_that_of_the_installed_project(monkeypatch: pytest.MonkeyPatch) -> None:
    assert flask_sessionstore.__version__ == metadata.version("flask-sessionstore")
    monkeypatch.setattr(metadata.Distribution, "discover", lambda **_: iter(()))
    assert not hasattr(flask_sessionstore, "__version__")
    with pytest.raises(AttributeError, match="no attribute __version__, since it is not installed"):
        flask_sessionstore.__version__  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute Sesion"):
        flask_sessionstore.Sesion  # type: ignore[attr-defined]  # noqa: B018
