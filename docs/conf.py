"""How the documentation is built: python3 dev.py docs"""

import os
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_tools"))

project = "flask_sessionstore"
author = "the flask_sessionstore authors"
copyright = "the flask_sessionstore authors"
with (HERE.parent / "pyproject.toml").open("rb") as file:
    about = tomllib.load(file)["project"]
release = version = about["version"]

extensions = ["sphinx.ext.autodoc", "sphinx_copybutton", "for_readers", "pictures"]
exclude_patterns = ["_build", "_tools"]
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
        r"Flask|t\.(Any|Callable|Mapping|Sequence)|timedelta|PooledClient|HashClient|Collection|Document|Engine|ImportSession|StoreSetting|OnStoreCall|Lost|CollectorRegistry|(opentelemetry\.)?(trace|metrics)\.\w+|Policy|Given|Client|Kind|SupportsKeysAndGetItem|TypeForm|datetime|T|flask_sessionstore\.(sessions|stores\.pool|stores\.base|stores\.contact)\.(T|D|R|_Ability)",
    ),
]

html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = "flask_sessionstore"
html_baseurl = os.environ.get("READTHEDOCS_CANONICAL_URL", about["urls"]["Documentation"])
html_static_path = ["_static"]
html_css_files = ["reading.css"]
html_search_scorer = str(HERE / "_tools" / "scorer.js")
html_show_sourcelink = False  # the sources are copied nevertheless, for llms.txt
html_theme_options = {
    "top_of_page_buttons": [],
    "light_css_variables": {"color-api-name": "#0b5cad", "color-api-pre-name": "#616e7c"},
    "dark_css_variables": {"color-api-name": "#7db7f5", "color-api-pre-name": "#a4afba"},
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "  # what a reader does not want to paste; nor what was answered
copybutton_prompt_is_regexp = True
