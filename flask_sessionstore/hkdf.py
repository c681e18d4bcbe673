"""HKDF-SHA-256 (RFC 5869): derives a separate key for each purpose from one secret."""

from __future__ import annotations

import hmac

from itsdangerous.encoding import want_bytes


def context_of(*parts: str) -> bytes:
    """The purpose of a derived key, as bytes. Each part's length precedes it, so two different contexts never match."""
    encoded = [part.encode() for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)


def derive_key(secret: str | bytes, context: bytes) -> bytes:
    """A key of 32 bytes: one block of HKDF, without salt.

    HKDF hashes the secret, and never uses it as the key of an HMAC over a text that somebody might choose. An
    application may publish such an HMAC under its ``SECRET_KEY``: that does not reveal the derived key.
    """
    extracted = hmac.digest(bytes(32), want_bytes(secret), "sha256")
    return hmac.digest(extracted, context + b"\x01", "sha256")
