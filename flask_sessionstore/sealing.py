"""Sealed records: the state lies in the store encrypted under a key that only the browser's requests can derive.

The key is derived (HKDF-SHA-256, RFC 5869, section 2.3) from the session key's random bytes, which nobody but the
browser keeps; the cipher is AES-256-GCM. A session is written far less often than random nonces of 96 bits allow for
one key, and a renewal brings another. Authenticated with the state: the handle, so that it cannot be moved under
another name, and all metadata but the two times that an extension moves.

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
from hashlib import sha256

from .errors import SessionCorrupt
from .key import SessionKey, from_base64url
from .layout import TIMES, pack, unpack
from .record import Record, Tombstone

_PURPOSE = b"flask_sessionstore.seal"
_NONCE_SIZE = 12
_BLOCK_SIZE = 64  # SHA-256's
_INNER, _OUTER = (bytes(byte ^ pad for byte in range(256)) for pad in (0x36, 0x5C))


def seal(record: Record, key: SessionKey) -> bytes:
    """The bytes of a record with its state encrypted for the holder of ``key``.

    :raises SessionError: if only the key's handle is known.
    """
    return pack(record, key.handle, _seal_of(key).close)


def unseal(data: bytes, key: SessionKey) -> Record | Tombstone:
    """What the bytes say, sealed or not.

    :raises SessionCorrupt: if they were changed or moved, or sealed with another key.
    :raises SessionError: if they are sealed, and only the key's handle is known.
    """
    return unpack(data, key.handle, lambda head, sealed: _seal_of(key).open(head, sealed))


class _Seal:
    """Of one session key."""

    __slots__ = ("_cipher", "_handle")

    def __init__(self, key: SessionKey) -> None:
        self._cipher = _library().AESGCM(_derive(from_base64url(f"{key}=")))
        self._handle = key.handle.encode()

    def close(self, head: bytes, state: bytes) -> bytes:
        nonce = os.urandom(_NONCE_SIZE)
        sealed: bytes = self._cipher.encrypt(nonce, state, self._handle + head[: TIMES.start] + head[TIMES.stop :])
        return nonce + sealed

    def open(self, head: bytes, sealed: bytes) -> bytes:
        authenticated = self._handle + head[: TIMES.start] + head[TIMES.stop :]
        try:
            state: bytes = self._cipher.decrypt(sealed[:_NONCE_SIZE], sealed[_NONCE_SIZE:], authenticated)
        except (_library().InvalidTag, ValueError) as error:  # the latter where it is too short
            raise SessionCorrupt("the store holds a sealed session that does not open", newer=False) from error
        return state


def _seal_of(key: SessionKey) -> _Seal:
    if key.sealer is None:
        key.sealer = _Seal(key)
    return t.cast("_Seal", key.sealer)


def _derive(secret: bytes) -> bytes:
    """HKDF-Expand of 32 bytes, which is one HMAC-SHA-256 (RFC 2104). What is random throughout needs no extraction.

    Written out, since this is the one HMAC whose key is never used again: a library looks up its parts anew each time,
    and within a request that makes sealing a third dearer (bench, November 2026).
    """
    block = secret.ljust(_BLOCK_SIZE, b"\0")
    inner = sha256(block.translate(_INNER) + _PURPOSE + b"\x01").digest()
    return sha256(block.translate(_OUTER) + inner).digest()


@functools.cache
def _library() -> t.Any:
    """What is needed of the package cryptography, which an application that seals nothing need not have."""
    try:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ModuleNotFoundError as error:
        raise SessionCorrupt(
            "the store holds a sealed session; to open it, pip install cryptography", newer=True
        ) from error
    return types.SimpleNamespace(AESGCM=AESGCM, InvalidTag=InvalidTag)
