"""Checks Flask-Session's ids before they become a name in an engine."""

from __future__ import annotations

import re
import typing as t

from itsdangerous import BadSignature, Signer

from ..key import is_handle
from ..tokens import Secrets

# Ids of versions up to 0.5, in the spelling of uuid4. Later versions keep the ids that browsers have.
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.ASCII)
_TOKEN = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


def checked(text: str, id_length: int) -> str | None:
    """The id in ``text``; None if the text is not an id.

    A handle of ours is never accepted as an id, though an id of 48 bytes has the same length: otherwise anybody who
    knows a handle, which is not secret, could have a record of ours read or removed.

    :param id_length: SESSION_ID_LENGTH, in bytes.
    """
    characters = (id_length * 4 + 2) // 3
    is_token = len(text) == characters and _TOKEN.fullmatch(text) is not None
    return text if (is_token or _UUID.fullmatch(text)) and not is_handle(text) else None


def unsigned(text: str, secrets: Secrets) -> str | None:
    """The id in a text that was signed as with SESSION_USE_SIGNER; None if the signature is wrong."""
    if not secrets:
        return None
    signer = Signer(t.cast("list[str]", list(reversed(secrets))), salt="flask-session", key_derivation="hmac")
    try:
        return signer.unsign(text.encode("ascii")).decode("ascii")
    except (BadSignature, UnicodeError):
        return None
