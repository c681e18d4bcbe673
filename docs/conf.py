"""How the documentation is built: sphinx-build -W -n docs docs/_build"""

import tomllib
from pathlib import Path

project = "flask_sessionstore"
author = "the flask_sessionstore authors"
copyright = "the flask_sessionstore authors"
with Path(__file__).parents[1].joinpath("pyproject.toml").open("rb") as file:
    release = version = tomllib.load(file)["project"]["version"]

extensions = ["sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
highlight_language = "python"

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True

nitpicky = True
# What others document (no intersphinx: the documentation is built without a network), and names for type checkers.
nitpick_ignore_regex = [
    ("py:.*", r"(flask|datetime|os|uuid)\..*"),
    (
        "py:class",
        r"Flask|t\.(Any|Callable|Mapping|Sequence)|timedelta|PooledClient|HashClient|Collection|Document|Engine|ImportSession|StoreSetting|Policy|Given|Client|Kind|SupportsKeysAndGetItem|TypeForm|datetime|T|flask_sessionstore\.(sessions|stores\.pool|stores\.base)\.(T|D|_Ability)",
    ),
]

html_theme = "alabaster"
html_theme_options = {
    "description": "Server-side sessions for Flask",
    "fixed_sidebar": True,
    "page_width": "72rem",
    "sidebar_width": "17rem",
}
