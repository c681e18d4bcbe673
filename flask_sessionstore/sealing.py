"""Sealed records: the state lies in the store encrypted under a key that only the browser's requests can derive.

The key is derived (HKDF-SHA-256, RFC 5869) from the session key, which nobody but the browser keeps; the cipher is
AES-256-GCM. A session is written far less often than random nonces of 96 bits allow for one key, and a renewal brings
another. Authenticated with the state: the handle, so that it cannot be moved under another name, and all metadata but
the two times that an extension moves.

::

    12 bytes   nonce
    ...        the state, encrypted
    16 bytes   tag
"""

from __future__ import annotations

import functools
import os
import types
import typing as t

from .errors import SessionCorrupt
from .key import SessionKey
from .record import TIMES, mark_sealed, split_state

_PURPOSE = b"flask_sessionstore.seal"
_NONCE_SIZE = 12


def seal(data: bytes, key: SessionKey) -> bytes:
    """A packed record with its state encrypted for the holder of ``key``.

    :raises SessionError: if only the key's handle is known.
    """
    head, state = split_state(data)
    head, nonce = mark_sealed(head, True), os.urandom(_NONCE_SIZE)
    sealed: bytes = _cipher(key).encrypt(nonce, state, _authenticated(head, key))
    return head + nonce + sealed


def unseal(data: bytes, key: SessionKey) -> bytes:
    """A sealed record with its state decrypted.

    :raises SessionCorrupt: if it was changed or moved, or sealed with another key.
    :raises SessionError: if only the key's handle is known.
    """
    cipher = _cipher(key)
    head, sealed = split_state(data)
    try:
        state: bytes = cipher.decrypt(sealed[:_NONCE_SIZE], sealed[_NONCE_SIZE:], _authenticated(head, key))
    except (_library().InvalidTag, ValueError) as error:  # the latter where it is too short
        raise SessionCorrupt("the store holds a sealed session that does not open", newer=False) from error
    return mark_sealed(head, False) + state


def _authenticated(head: bytes, key: SessionKey) -> bytes:
    return key.handle.encode() + head[: TIMES.start] + head[TIMES.stop :]


def _cipher(key: SessionKey) -> t.Any:
    if key._cipher is None:
        secret = str(key).encode()
        library = _library()
        derivation = library.HKDF(algorithm=library.SHA256(), length=32, salt=None, info=_PURPOSE)
        key._cipher = library.AESGCM(derivation.derive(secret))
    return key._cipher


@functools.cache
def _library() -> t.Any:
    """What is needed of the package cryptography, which an application that seals nothing need not have."""
    try:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF
    except ModuleNotFoundError as error:
        raise SessionCorrupt(
            "the store holds a sealed session; to open it, pip install cryptography", newer=True
        ) from error
    return types.SimpleNamespace(AESGCM=AESGCM, HKDF=HKDF, InvalidTag=InvalidTag, SHA256=SHA256)
