"""The keys of cookies, made as the documentation describes it, without the package's code."""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from itsdangerous import Signer

#: What the keys of each kind of cookie are for.
SIGNED, PRIVATE = "flask_sessionstore.cookie", "flask_sessionstore.private cookie"


def context(purpose: str, name: str = "session", path: str = "/") -> bytes:
    """The context of the key of one cookie."""
    return b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in (purpose, name, path))


def derive(secret: bytes, info: bytes) -> bytes:
    """32 bytes of HKDF-SHA-256."""
    return HKDF(SHA256(), length=32, salt=None, info=info).derive(secret)


def signer(secret: str, name: str = "session", path: str = "/", *, purpose: str = SIGNED) -> Signer:
    """What signs and reads signed cookies by itsdangerous alone."""
    key = derive(secret.encode(), context(purpose, name, path))
    return Signer(key, key_derivation="none", digest_method=hashlib.sha256)
