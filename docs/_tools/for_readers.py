"""What the built documentation has besides its pages: descriptions, llms.txt, a sitemap; settings as objects, and
short code in one line.
"""

from __future__ import annotations

import re
import typing as t
from html import escape
from pathlib import Path
from urllib.parse import urljoin
from xml.sax.saxutils import escape as escape_xml

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

LONGEST = 160  # characters of a description that search engines show
SHORT = {"short": 24, "tiny": 15}  # characters of code that fit into half a line on a telephone, or into a table there
SETTING = re.compile(r"^([A-Z_]+)\n(?=   :type: )", re.MULTILINE)


def setup(app: Sphinx) -> dict[str, t.Any]:
    """Connect to the build."""
    app.connect("source-read", make_settings_objects)
    app.connect("doctree-read", keep_short_code_together)
    app.connect("html-page-context", describe)
    app.connect("build-finished", write_lists)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def make_settings_objects(app: Sphinx, docname: str, content: list[str]) -> None:
    """Make settings things that one can link to; in the source they are definitions, which docutils alone can show."""
    content[0] = SETTING.sub(r".. confval:: \1\n", content[0])


def keep_short_code_together(app: Sphinx, doctree: nodes.document) -> None:
    """Mark short code, so that it is not broken across lines, as --json after its hyphens."""
    for code in doctree.findall(nodes.literal):
        code["classes"] += [name for name, most in SHORT.items() if len(code.astext()) <= most]


def describe(app: Sphinx, docname: str, template: str, context: dict[str, t.Any], doctree: nodes.document) -> None:
    """Give a page that has no description its first paragraph."""
    if 'name="description"' not in context.get("metatags", ""):
        text = escape(first_words(doctree) or f"{context.get('title', 'Search')}: {app.config.project}")
        context["metatags"] = f'{context.get("metatags", "")}<meta name="description" content="{text}" />\n'


def first_words(doctree: nodes.document | None) -> str:
    """The first sentences of a page, as many as a description holds."""
    paragraphs = doctree.findall(nodes.paragraph) if doctree else ()
    text = " ".join(next((paragraph.astext() for paragraph in paragraphs), "").split())
    return text if len(text) <= LONGEST else text[: LONGEST - 1].rpartition(" ")[0] + "…"


def description(app: Sphinx, docname: str) -> str:
    """What a page says of itself, else its first words."""
    doctree = app.env.get_doctree(docname)
    said = (meta["content"] for meta in doctree.findall(nodes.meta) if meta.get("name") == "description")
    return next(said, None) or first_words(doctree)


def write_lists(app: Sphinx, failure: Exception | None) -> None:
    """Write llms.txt and sitemap.xml, unless the build failed."""
    if failure is None and app.builder.format == "html":
        Path(app.outdir, "llms.txt").write_text(llms(app), encoding="utf-8")
        Path(app.outdir, "sitemap.xml").write_text(sitemap(app), encoding="utf-8")


def llms(app: Sphinx) -> str:
    """All pages, chapter by chapter, for programs that read text: https://llmstxt.org"""
    root = str(app.config.root_doc)
    head = f"# {app.config.project}\n\n> {description(app, root)}\n"
    return head + "".join(chapter(app, tree) for tree in app.env.get_doctree(root).findall(addnodes.toctree))


def chapter(app: Sphinx, tree: addnodes.toctree) -> str:
    """A heading, and a line for each page."""
    lines = (line for docname in tree["includefiles"] for line in entries(app, docname))
    return f"\n## {tree.get('caption') or app.config.project}\n\n" + "".join(lines)


def entries(app: Sphinx, docname: str) -> t.Iterator[str]:
    """The line of a page, and of those below it."""
    url = urljoin(app.config.html_baseurl, f"_sources/{docname}.rst.txt")
    yield f"- [{app.env.titles[docname].astext()}]({url}): {description(app, docname)}\n"
    for below in app.env.toctree_includes.get(docname, []):
        yield from entries(app, below)


def sitemap(app: Sphinx) -> str:
    """The addresses of all pages, for search engines."""
    places = (urljoin(app.config.html_baseurl, app.builder.get_target_uri(name)) for name in sorted(app.env.found_docs))
    urls = "".join(f"  <url><loc>{escape_xml(place)}</loc></url>\n" for place in places)
    schema = "http://www.sitemaps.org/schemas/sitemap/0.9"
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<urlset xmlns="{schema}">\n{urls}</urlset>\n'
