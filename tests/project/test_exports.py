"""What modules say that they export is there."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import flask_sessionstore

MODULES = [module.name for module in pkgutil.walk_packages(flask_sessionstore.__path__, "flask_sessionstore.")]


@pytest.mark.parametrize("name", ["flask_sessionstore", *MODULES])
def test_every_name_in_all_is_there_and_is_there_once(name: str) -> None:
    module = importlib.import_module(name)
    exported = list(getattr(module, "__all__", ()))
    assert [missing for missing in exported if not hasattr(module, missing)] == []
    assert len(set(exported)) == len(exported)
