"""Sealed records: the state lies in the store encrypted under a key that only the browser's requests can derive.

The key is derived (HKDF-SHA-256, RFC 5869, section 2.3) from the session key's random bytes, which only the browser
keeps; the cipher is AES-256-GCM. One key with random nonces of 96 bits allows far more writes than a session ever
makes, and a renewal brings a new key. The cipher also authenticates the handle, so that a sealed state cannot be moved
under another name, and all metadata except the two times that an extension moves.

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
    """The bytes of a record, with its state encrypted for whoever holds ``key``.

    :raises SessionError: if only the key's handle is known.
    """
    return pack(record, key.handle, _seal_of(key).close)


def unseal(data: bytes, key: SessionKey) -> Record | Tombstone:
    """The record or tombstone that the bytes hold, sealed or not.

    :raises SessionCorrupt: if the bytes were changed or moved, or sealed with another key.
    :raises SessionError: if the bytes are sealed, and only the key's handle is known.
    """
    return unpack(data, key.handle, lambda head, sealed: _seal_of(key).open(head, sealed))


class _Seal:
    """Encrypts and decrypts with what is derived from one session key."""

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
        except (_library().InvalidTag, ValueError) as error:  # ValueError: too short
            raise SessionCorrupt("the store holds a sealed session that does not open", newer=False) from error
        return state


def _seal_of(key: SessionKey) -> _Seal:
    origin = key if key.origin is None else key.origin
    if origin.sealer is None:
        origin.sealer = _Seal(key)
    return t.cast("_Seal", origin.sealer)


def _derive(secret: bytes) -> bytes:
    """HKDF-Expand of 32 bytes: one HMAC-SHA-256 (RFC 2104). The secret is random, so HKDF-Extract can be left out.

    The HMAC is written out here because its key is never used again: a library looks up its parts anew for every key,
    and within a request that makes sealing slower by a third (bench, November 2026).
    """
    block = secret.ljust(_BLOCK_SIZE, b"\0")
    inner = sha256(block.translate(_INNER) + _PURPOSE + b"\x01").digest()
    return sha256(block.translate(_OUTER) + inner).digest()


@functools.cache
def _library() -> t.Any:
    """The two names we need of the package cryptography. Applications that seal nothing need not install it."""
    try:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ModuleNotFoundError as error:
        raise SessionCorrupt(
            "the store holds a sealed session; to open it, pip install cryptography", newer=True
        ) from error
    return types.SimpleNamespace(AESGCM=AESGCM, InvalidTag=InvalidTag)
