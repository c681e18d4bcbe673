"""For the build alone: makes the links of README.rst absolute, since the package index has no files beside it."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface

# The target of a link, or the file of a picture, that is neither an address nor a place in the same text.
_RELATIVE = re.compile(r"(?<=<)(?!https?:|#)[\w./-]+(?=>`_)|(?<=\.\. image:: )(?!https?:)\S+")


class AbsoluteLinks(MetadataHookInterface):
    """Gives the wheel's metadata the README with links that work everywhere."""

    def update(self, metadata: dict[str, t.Any]) -> None:
        """Put the README into the metadata, with links that work everywhere."""
        text = Path(self.root, "README.rst").read_text(encoding="utf-8")
        address = metadata["urls"]["Source"].rstrip("/")
        metadata["readme"] = {"content-type": "text/x-rst", "text": absolute(text, address)}


def absolute(text: str, address: str) -> str:
    """``text`` with the address before each relative target."""
    return _RELATIVE.sub(lambda found: f"{address}/{found[0]}", text)
