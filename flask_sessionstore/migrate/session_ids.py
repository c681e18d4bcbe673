"""Flask-Session's ids, checked before they become a name in somebody's engine."""

from __future__ import annotations

import re
import typing as t

from itsdangerous import BadSignature, Signer

from ..key import is_handle
from ..tokens import Secrets

# As uuid4 spells them, in every version up to 0.5; later ones keep the ids that browsers have.
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.ASCII)
_TOKEN = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


def checked(text: str, id_length: int) -> str | None:
    """The id in ``text``; None if the text is not an id.

    A handle of ours is never taken for one, though an id of 48 bytes is as long: whoever knows a handle, which is no
    secret, would have a record of ours read or removed.

    :param id_length: SESSION_ID_LENGTH, in bytes.
    """
    characters = (id_length * 4 + 2) // 3
    is_token = len(text) == characters and _TOKEN.fullmatch(text) is not None
    return text if (is_token or _UUID.fullmatch(text)) and not is_handle(text) else None


def unsigned(text: str, secrets: Secrets) -> str | None:
    """What was signed as SESSION_USE_SIGNER does it; None if it was not."""
    if not secrets:
        return None
    signer = Signer(t.cast("list[str]", list(reversed(secrets))), salt="flask-session", key_derivation="hmac")
    try:
        return signer.unsign(text.encode("ascii")).decode("ascii")
    except (BadSignature, UnicodeError):
        return None
