"""What people write for the names of settings: those of other frameworks, and misspellings. Imported only when an
application has a setting that is not known.
"""

from __future__ import annotations

import difflib
import typing as t

# From this ratio on, two names of settings are so alike that one is taken for a misspelling of the other.
_ALIKE = 0.8

#: Settings of Flask-Session, and what to write instead of each.
FLASK_SESSION = {
    "SESSION_TYPE": 'SESSION_STORE = "redis://localhost:6379/0", "file:sessions" or another URL',
    "SESSION_REDIS": 'SESSION_STORE = "redis://...", or RedisStore(your_client)',
    "SESSION_FILE_DIR": 'SESSION_STORE = "file:///the/folder"',
    "SESSION_FILE_THRESHOLD": 'SESSION_STORE = "file:sessions", without a limit of files',
    "SESSION_FILE_MODE": 'SESSION_STORE = "file:sessions", whose files always have mode 0600',
    "SESSION_CACHELIB": 'SESSION_STORE = "file:///the/folder"',
    "SESSION_MEMCACHED": 'SESSION_STORE = "memcached://..."',
    "SESSION_MONGODB": 'SESSION_STORE = "mongodb://..."',
    "SESSION_MONGODB_DB": 'SESSION_STORE = "mongodb://.../database"',
    "SESSION_MONGODB_COLLECT": "SESSION_STORE_OPTIONS",
    "SESSION_SQLALCHEMY": "SESSION_STORE = lambda app: SQLAlchemyStore(db.engine)",
    "SESSION_SQLALCHEMY_TABLE": "SESSION_STORE_OPTIONS",
    "SESSION_SQLALCHEMY_SEQUENCE": "nothing: handles are the table's primary key",
    "SESSION_SQLALCHEMY_SCHEMA": "SESSION_STORE_OPTIONS",
    "SESSION_SQLALCHEMY_BIND_KEY": 'SESSION_STORE = lambda app: SQLAlchemyStore(db.engines["key"])',
    "SESSION_DYNAMODB": 'SESSION_STORE = "dynamodb://region/table"',
    "SESSION_DYNAMODB_TABLE": 'SESSION_STORE = "dynamodb://region/table"',
    "SESSION_USE_SIGNER": "nothing: cookies are always signed",
    "SESSION_ID_LENGTH": "nothing: session keys always hold 256 random bits",
    "SESSION_SERIALIZATION_FORMAT": "nothing: there is one format",
    "SESSION_CLEANUP_N_REQUESTS": "nothing, or SESSION_SWEEP_INTERVAL = 60",
}
#: Our setting -> what other frameworks call it, without SESSION_.
ELSEWHERE = {
    "SESSION_STORE": (
        "BACKEND CACHE_ALIAS CONNECTION DATABASE DATABASE_URL DATABASE_URI DB DIR DIRECTORY DRIVER ENGINE FILE_PATH"
        " FOLDER REDIS_URL REDIS_URI SAVE_PATH STORAGE STORAGE_URL STORAGE_URI STORE_URL STORE_URI STORE_TYPE URL URI"
    ),
    "SESSION_SWEEP_INTERVAL": "CLEANUP CLEANUP_INTERVAL GC_INTERVAL SWEEP",
    "SESSION_STORE_OPTIONS": "BACKEND_OPTIONS COLLECTION OPTIONS STORE_ARGS STORE_KWARGS TABLE TABLE_NAME",
    "SESSION_KEY_PREFIX": "NAMESPACE PREFIX REDIS_PREFIX",
    "PERMANENT_SESSION_LIFETIME": (
        "AGE COOKIE_AGE COOKIE_EXPIRES COOKIE_LIFETIME COOKIE_MAX_AGE DURATION EXPIRATION EXPIRE EXPIRES EXPIRES_IN"
        " EXPIRY IDLE_LIFETIME IDLE_TIMEOUT LIFETIME MAXAGE MAX_AGE PERMANENT_LIFETIME TIMEOUT TTL"
    ),
    "SESSION_ABSOLUTE_LIFETIME": "ABSOLUTE_TIMEOUT HARD_TIMEOUT MAX_LIFETIME",
    "SESSION_PERMANENT": "COOKIE_PERMANENT EXPIRE_AT_BROWSER_CLOSE EXPIRE_ON_CLOSE",
    "SESSION_REFRESH_EACH_REQUEST": (
        "REFRESH RESAVE ROLLING SAVE_EVERY_REQUEST SLIDING SLIDING_EXPIRATION UPDATE_EACH_REQUEST"
    ),
    "SESSION_OWNER_KEY": "OWNER OWNER_ID USER_FIELD USER_ID USER_ID_KEY USER_KEY",
    "SESSION_MAX_PER_OWNER": "LIMIT MAX_CONCURRENT MAX_PER_USER MAX_SESSIONS",
    "SESSION_MAX_SIZE": "MAX_BYTES SIZE SIZE_LIMIT",
    "SESSION_SEAL": "ENCRYPT ENCRYPTED ENCRYPTION ENCRYPTION_KEY",
    "SESSION_COOKIE_CONTENT_SECURITY": "COOKIE_ENCRYPT COOKIE_ENCRYPTED COOKIE_PRIVATE COOKIE_SIGNED",
    "SESSION_COOKIE_NAME": "COOKIE NAME",
    "SESSION_COOKIE_DOMAIN": "DOMAIN",
    "SESSION_COOKIE_PATH": "PATH",
    "SESSION_COOKIE_SECURE": "HTTPS_ONLY SECURE SECURE_COOKIE",
    "SESSION_COOKIE_HTTPONLY": "HTTPONLY HTTP_ONLY",
    "SESSION_COOKIE_SAMESITE": "SAMESITE SAME_SITE",
    "SESSION_COOKIE_PARTITIONED": "PARTITIONED PARTITIONED_COOKIE",
    "SECRET_KEY": "SECRET SECRET_KEY SIGNING_KEY",
}
#: What other frameworks call it -> our setting.
OURS = {f"SESSION_{name}": ours for ours, names in ELSEWHERE.items() for name in names.split()}


def setting(name: str, known: t.Iterable[str]) -> str | None:
    """What to write instead of a setting's unknown name; None if the setting may belong to somebody else.

    :param known: the names of the settings that there are.
    """
    if name in OURS:
        return f"{name} is not a setting here: write {OURS[name]}"
    plain = {key.removeprefix("SESSION_"): key for key in known}
    alike = difflib.get_close_matches(name.removeprefix("SESSION_"), plain, n=1, cutoff=_ALIKE)
    return f"{name} is not a setting; did you mean {plain[alike[0]]}?" if alike else None
