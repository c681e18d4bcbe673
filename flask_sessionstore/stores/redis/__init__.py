"""RedisStore: sessions in Redis, Valkey, or whatever speaks their protocol."""

from .store import RedisStore

__all__ = ["RedisStore"]
