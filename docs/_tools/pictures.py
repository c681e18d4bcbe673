"""The pictures of the documentation, drawn from what happens, step by step, as SVG.

The build writes docs/pictures/*.svg again when this file has changed, and puts each picture into its page, where it has
the colours of the page, light or dark. The files are also in the repository, for readers who see the sources alone.
"""

from __future__ import annotations

import textwrap
import typing as t
from html import escape
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx

FOLDER = Path(__file__).parents[1] / "pictures"

WIDTH = 460  # narrow, so that letters can be read on a telephone
FONT = 14
LINE = 19
LETTER = 0.54 * FONT  # an average one
GAP = 16

LIGHT = "--ink: #1f2933; --soft: #52606d; --paper: #fff; --good: #0a7a45; --bad: #b42318; --tint: #e8f1fb"
DARK = "--ink: #e4e7eb; --soft: #a4afba; --paper: #131416; --good: #4cc38a; --bad: #ff8a7a; --tint: #1d2b3d"
STYLE = f"""
svg.drawing {{ {LIGHT}; font: {FONT}px system-ui, sans-serif; fill: var(--ink) }}
@media (prefers-color-scheme: dark) {{ svg.drawing {{ {DARK} }} }}
body[data-theme="light"] svg.drawing {{ {LIGHT} }}
body[data-theme="dark"] svg.drawing {{ {DARK} }}
svg.drawing .paper {{ fill: var(--paper) }}
svg.drawing text {{ text-anchor: middle; stroke: var(--paper); stroke-width: 5px; paint-order: stroke }}
svg.drawing .box text {{ stroke: none }}
svg.drawing .head text {{ font-weight: 600 }}
svg.drawing rect {{ fill: var(--tint); stroke: var(--soft) }}
svg.drawing .good rect {{ stroke: var(--good); stroke-width: 2px }}
svg.drawing .bad rect {{ stroke: var(--bad); stroke-width: 2px }}
svg.drawing line {{ stroke: var(--soft); stroke-width: 1.5px }}
svg.drawing .life {{ stroke-dasharray: 2 4 }}
svg.drawing .answer line {{ stroke-dasharray: 6 4 }}
svg.drawing .good line {{ stroke: var(--good) }}
svg.drawing .bad line {{ stroke: var(--bad) }}
svg.drawing .good text.said {{ fill: var(--good) }}
svg.drawing .bad text.said {{ fill: var(--bad) }}
svg.drawing path {{ fill: var(--soft) }}
svg.drawing .good path {{ fill: var(--good) }}
svg.drawing .bad path {{ fill: var(--bad) }}
"""


class Says(t.NamedTuple):
    """One lane says something to another: an arrow. The kinds are "answer", "good" and "bad"."""

    sender: int
    receiver: int
    text: str
    kind: str = ""

    def draw(self, picture: Picture, y: int) -> tuple[str, int]:
        """An arrow below its words, and where the next step begins."""
        start, end = middle(picture, self.sender), middle(picture, self.receiver)
        lines = wrap(self.text, 250)
        x = within((start + end) / 2, max(map(len, lines)) * LETTER)
        said = "".join(
            f'<text class="said" x="{x}" y="{y + LINE * n + FONT}">{escape(line)}</text>'
            for n, line in enumerate(lines)
        )
        y += LINE * len(lines) + 8
        back = -9 if end > start else 9
        arrow = f'<line x1="{start}" x2="{end + back}" y1="{y}" y2="{y}"/><path d="M{end} {y}l{back} -5v10z"/>'
        return f'<g class="{self.kind}">{arrow}{said}</g>', y + GAP


class Has(t.NamedTuple):
    """Something that happens in one lane, or is there: a box."""

    lane: int
    text: str
    kind: str = ""

    def draw(self, picture: Picture, y: int) -> tuple[str, int]:
        """A box on its lane, and where the next step begins."""
        lines = wrap(self.text, 190)
        return draw_words(middle(picture, self.lane), y, lines, self.kind), y + LINE * len(lines) + 12 + GAP


class Picture(t.NamedTuple):
    """What happens between some lanes, from top to bottom."""

    title: str
    lanes: tuple[str, ...]
    steps: tuple[Says | Has, ...]


BROWSER, VIEW, STORE = range(3)
ONE, MIDDLE, TWO = range(3)
PICTURES = {
    "request": Picture(
        "The walk of a request",
        ("Browser", "Your view", "Store"),
        (
            Says(BROWSER, VIEW, "a request, with the cookie"),
            Has(VIEW, "nothing happens yet: a view that leaves the session alone costs nothing"),
            Has(VIEW, "the view touches the session: the cookie's signature is checked"),
            Says(VIEW, STORE, "read, by the hash of the session key"),
            Says(STORE, VIEW, "the record and its revision", "answer"),
            Has(VIEW, "the view changes the cart"),
            Says(VIEW, STORE, "store, if the revision is still the same"),
            Says(STORE, VIEW, "stored", "answer good"),
            Says(VIEW, BROWSER, "the page; a cookie, if it says something new", "answer"),
        ),
    ),
    "overlap": Picture(
        "Two requests that merge",
        ("Tab one", "Store", "Tab two"),
        (
            Says(ONE, MIDDLE, "read"),
            Says(MIDDLE, ONE, "count 5, revision 7", "answer"),
            Says(TWO, MIDDLE, "read"),
            Says(MIDDLE, TWO, "count 5, revision 7", "answer"),
            Says(TWO, MIDDLE, "store count 6, if it is still revision 7"),
            Says(MIDDLE, TWO, "stored, as revision 8", "answer good"),
            Says(ONE, MIDDLE, "store count 6 and a colour, if still revision 7"),
            Says(MIDDLE, ONE, "no: here is revision 8", "answer bad"),
            Has(ONE, "the changes are applied again: to count 6"),
            Says(ONE, MIDDLE, "store count 7 and the colour, if still revision 8"),
            Says(MIDDLE, ONE, "stored: nothing is lost", "answer good"),
        ),
    ),
    "log-out": Picture(
        "A log-out that meets a late write",
        ("Slow request", "Store", "Log-out"),
        (
            Says(ONE, MIDDLE, "read"),
            Says(MIDDLE, ONE, "the session of ada", "answer"),
            Says(TWO, MIDDLE, "session.clear(): end it"),
            Has(MIDDLE, "a tombstone without data: ended"),
            Says(MIDDLE, TWO, "ended; the cookie is deleted", "answer good"),
            Has(ONE, "is done, and wants to store"),
            Says(ONE, MIDDLE, "store, if the revision is still the same"),
            Says(MIDDLE, ONE, "no: the session is gone", "answer bad"),
            Has(ONE, "the write is dropped, the log has a warning, no cookie is sent", "bad"),
        ),
    ),
    "tombstones": Picture(
        "A tombstone and its successor",
        ("Browser", "Old key", "New key"),
        (
            Says(BROWSER, 1, "session.renew(), with the old key"),
            Has(2, "a record with the same data", "good"),
            Has(1, "a tombstone for a minute: renewed, goes on under the new key"),
            Says(2, BROWSER, "a cookie with the new key", "answer good"),
            Says(BROWSER, 1, "a late write, with the old key"),
            Says(1, BROWSER, "dropped", "answer bad"),
            Says(BROWSER, 1, "a late log-out, with the old key"),
            Says(1, 2, "ends the successor"),
            Has(2, "a tombstone: ended", "bad"),
            Has(1, "after the minute nothing is here any more"),
        ),
    ),
    "two-tiers": Picture(
        "A cache in front of a store",
        ("Request", "Cache", "Store"),
        (
            Says(0, 1, "read: is there what my browser has seen last?"),
            Says(1, 0, "yes: a record of the last two seconds", "answer good"),
            Has(0, "another request, a while later"),
            Says(0, 1, "read"),
            Says(1, 0, "nothing, or nothing recent enough", "answer bad"),
            Says(0, 2, "read"),
            Says(2, 0, "the record", "answer good"),
            Says(0, 1, "keep a copy for two seconds", "answer"),
            Has(0, "a request that changes the session"),
            Says(0, 2, "store, if the revision is still the same"),
            Says(2, 0, "stored: the store decides", "answer good"),
            Says(0, 1, "keep a copy", "answer"),
        ),
    ),
}


def draw(picture: Picture) -> str:
    """A picture as SVG."""
    parts, y = [], 44 + GAP
    for step in picture.steps:
        drawn, y = step.draw(picture, y)
        parts.append(drawn)
    lanes = range(len(picture.lanes))
    lives = [f'<line class="life" x1="{x}" x2="{x}" y1="40" y2="{y}"/>' for x in (middle(picture, n) for n in lanes)]
    heads = [draw_words(middle(picture, n), 8, [picture.lanes[n]], "head") for n in lanes]
    size = f'width="{WIDTH}" viewBox="0 0 {WIDTH} {y + 8}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" class="drawing" {size} role="img">'
    title = f"<title>{escape(picture.title)}</title>\n<style>{STYLE}</style>"
    paper = f'<rect class="paper" width="{WIDTH}" height="{y + 8}" style="stroke: none; fill: var(--paper)"/>'
    return "\n".join([head, title, paper, *lives, *heads, *parts, "</svg>"]) + "\n"


def middle(picture: Picture, lane: int) -> int:
    """Where a lane is, from the left; the outer ones are near the edges, so that words have room between them."""
    edge = 70
    return edge + lane * (WIDTH - 2 * edge) // (len(picture.lanes) - 1)


def within(x: float, width: float) -> int:
    """The middle of something as wide as this that is near ``x`` and does not leave the picture."""
    return round(min(max(x, width / 2 + 6), WIDTH - width / 2 - 6))


def wrap(text: str, width: float) -> list[str]:
    """A text in lines of this width."""
    return textwrap.wrap(text, int(width / LETTER))


def draw_words(x: float, y: int, lines: list[str], kind: str) -> str:
    """A box with these lines."""
    width = max(map(len, lines)) * LETTER + 22
    x = within(x, width)
    words = "".join(
        f'<text x="{x}" y="{y + LINE * n + FONT + 6}">{escape(line)}</text>' for n, line in enumerate(lines)
    )
    box = f'<rect x="{x - width / 2:.0f}" y="{y}" width="{width:.0f}" height="{LINE * len(lines) + 12}" rx="6"/>'
    return f'<g class="box {kind}">{box}{words}</g>'


def write_pictures() -> None:
    """Write each picture whose drawing has changed."""
    for name, picture in PICTURES.items():
        path, drawn = FOLDER / f"{name}.svg", draw(picture)
        if not path.exists() or path.read_text(encoding="utf-8") != drawn:
            path.write_text(drawn, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, t.Any]:
    """Connect to the build."""
    app.connect("builder-inited", lambda app: write_pictures())
    app.connect("doctree-read", put_in_place, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def put_in_place(app: Sphinx, doctree: nodes.document) -> None:
    """Put the drawings themselves into the page, so that they follow its colours; an ``<img>`` would not."""
    for image in list(doctree.findall(nodes.image)):
        name = Path(image["uri"]).stem
        if name in PICTURES and app.builder.format == "html":
            app.env.note_dependency(str(FOLDER / f"{name}.svg"))
            said = escape(" ".join(image["alt"].split()))
            drawn = f'<div class="drawn" role="img" aria-label="{said}">{draw(PICTURES[name])}</div>'
            image.replace_self(nodes.raw("", drawn, format="html"))


if __name__ == "__main__":
    write_pictures()
