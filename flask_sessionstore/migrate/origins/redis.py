"""Reads sessions from Redis: strings with the engine's own expiry."""

from __future__ import annotations

import re
import typing as t

from ...errors import StoreUnavailable
from ...stores.redis import RedisStore
from . import Found

# PTTL's replies for a name that has gone meanwhile, and for a name without expiry.
_GONE, _NEVER = -2, -1


class _Redis(RedisStore):
    """Reads as our store does: with connections that each serve one exchange, and with the same time-outs."""

    def found(self, name: str, now: float) -> Found | None:
        """The bytes under a name, with their expiry."""
        data = self.read(name)
        return None if data is None else _found(data, self._call("PTTL", name), now)

    def all_found(self, prefix: str, now: float) -> t.Iterator[tuple[str, Found | None]]:
        """The bytes under each name that begins with ``prefix``, with their expiry."""
        pattern = re.sub(r"[*?\[\]\\]", r"\\\g<0>", prefix).encode() + b"*"
        for names in self._scan(pattern):
            yield from self._each([name.decode("utf-8", "replace") for name in names], now)

    def _each(self, names: t.Sequence[str], now: float) -> t.Iterator[tuple[str, Found | None]]:
        commands = [command for name in names for command in (("GET", name), ("PTTL", name))]
        try:
            replies = self._translated(self._client.execute_each, commands)
        except StoreUnavailable:  # one of the names may hold another type than string
            yield from ((name, self.found(name, now)) for name in names)
            return
        for name, data, left in zip(names, replies[::2], replies[1::2], strict=True):
            yield name, None if data is None else _found(data, left, now)


def _found(data: bytes, left: int, now: float) -> Found | None:
    return None if left == _GONE else Found(data, None if left == _NEVER else now + left / 1000)


class _Origin:
    def __init__(self, redis: _Redis) -> None:
        self._redis = redis

    def read(self, name: str, now: float) -> Found | None:
        return self._redis.found(name, now)

    def remove(self, name: str) -> None:
        self._redis.drop(name)

    def scan(self, prefix: str, now: float) -> t.Iterator[tuple[str, Found]]:
        for name, found in self._redis.all_found(prefix, now):
            if found is not None:
                yield name, found

    def missing(self) -> None:
        return None


def origin(source: t.Any) -> _Origin:
    """The origin in the server of a URL, or of any client of redis-py."""
    return _Origin(_Redis.from_url(source, prefix="") if isinstance(source, str) else _Redis(source, prefix=""))
