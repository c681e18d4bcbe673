"""What a SESSION_STORE that names no store was meant to be. Imported only when there is one.

A message quotes words and paths, but nothing that may hold a password.
"""

from __future__ import annotations

import difflib
import re
import typing as t
from pathlib import Path
from urllib.parse import quote

from ..errors import ConfigurationError

_REDIS, _FILES, _MEMORY, _SQLITE = "redis://localhost:6379/0", "file:sessions", "memory:", "sqlite:///sessions.db"
_POSTGRESQL, _MYSQL = "postgresql://user:password@host/database", "mysql://user:password@host/database"
_MONGODB, _MEMCACHED = "mongodb://localhost:27017/database", "memcached://localhost:11211"
_DYNAMODB = "dynamodb://region/table"
# A word that stands for a kind of store, among them Flask-Session's values of SESSION_TYPE -> a URL of that kind.
_WORDS = {
    **dict.fromkeys(("redis", "keydb", "dragonfly", "redis-py"), _REDIS),
    **dict.fromkeys(("valkey",), "valkey://localhost:6379/0"),
    **dict.fromkeys(("memcached", "memcache", "pymemcache"), _MEMCACHED),
    **dict.fromkeys(("filesystem", "files", "file", "fs", "disk", "cachelib", "folder", "directory"), _FILES),
    **dict.fromkeys(("memory", "mem", "ram", "inmemory", "in-memory", "simple", "simplecache"), _MEMORY),
    **dict.fromkeys(("cookie", "cookies", "client", "securecookie"), "cookie:"),
    **dict.fromkeys(("sqlite", "sqlite3"), _SQLITE),
    **dict.fromkeys(("postgresql", "postgres", "pg", "psql", "pgsql", "psycopg", "psycopg2"), _POSTGRESQL),
    "mysql": _MYSQL,
    "mariadb": _MYSQL.replace("mysql", "mariadb"),
    **dict.fromkeys(("mongodb", "mongo", "pymongo"), _MONGODB),
    **dict.fromkeys(("dynamodb", "dynamo", "boto3"), _DYNAMODB),
}
_DATABASES = ("sqlalchemy", "sql", "db", "database", "flask-sqlalchemy")
_NOTHING = ("null", "none", "default", "false")
# Another scheme -> ours.
_SCHEMES = {
    **dict.fromkeys(("pg", "psql", "pgsql", "postgre"), "postgresql"),
    **dict.fromkeys(("redis+ssl", "redis+tls", "rediss+ssl"), "rediss"),
    **dict.fromkeys(("unix", "redis+socket", "rediss+unix", "redis-unix"), "redis+unix"),
    **dict.fromkeys(("sentinel", "redis-sentinel", "redissentinel"), "redis+sentinel"),
    **dict.fromkeys(("redis-cluster", "rediscluster"), "redis+cluster"),
    **dict.fromkeys(("keydb", "dragonfly", "redis+tcp", "redis-py"), "redis"),
    **dict.fromkeys(("filesystem", "files", "fs", "dir", "directory", "folder", "path", "cachelib"), "file"),
    **dict.fromkeys(("mem", "ram", "inmemory", "in-memory", "simple", "dict"), "memory"),
    **dict.fromkeys(("client", "securecookie"), "cookie"),
    "sqlserver": "mssql",
}
_PORTS = {"6379": "redis", "11211": "memcached", "27017": "mongodb", "5432": "postgresql", "3306": "mysql"}
_DATABASE_FILE = re.compile(r".*\.(db|sqlite3?)", re.IGNORECASE)
_WINDOWS = re.compile(r"[A-Za-z]:[\\/]")
_EXAMPLES = f'a URL such as "{_REDIS}", "{_SQLITE}", "{_FILES}" (a folder) or "{_MEMORY}"'


def refusal(text: str, known: t.Iterable[str]) -> ConfigurationError:
    """The error for a text that is not the URL of a store.

    :param known: the schemes that there are.
    """
    return ConfigurationError(f"SESSION_STORE {_reason(text, sorted(known))}", key="SESSION_STORE")


def _reason(text: str, known: list[str]) -> str:
    word = text.strip().lower()
    if not word:
        return f"is empty: write {_EXAMPLES}"
    if text[0] in "\"'" or text != text.strip():
        return "has quotes or blanks around it: remove them"
    if "$" in text[0] + text[-1] or text.startswith("%"):
        return "is the name of an environment variable that nobody has replaced by its value"
    scheme, colon, rest = word.partition(":")
    return _word(word) or _path(text) or (_scheme(scheme, rest, known) if colon else f"is not a URL: write {_EXAMPLES}")


def _word(word: str) -> str | None:
    if word in _WORDS:
        return f'is only the word "{word}": write a URL, such as "{_WORDS[word]}"'
    if word in _DATABASES:
        return f'is only the word "{word}": write the database\'s URL, or lambda app: SQLAlchemyStore(db.engine)'
    if word in _NOTHING:
        return f'is only the word "{word}": leave it out, and sessions are in files in the instance folder'
    return None


def _path(text: str) -> str | None:
    if "@" in text or "://" in text:  # it may hold a password
        return None
    is_database = _DATABASE_FILE.fullmatch(text)
    if _WINDOWS.match(text):
        path = text.replace("\\", "/")
    elif text[0] in "/~":
        path = Path(text).expanduser().as_posix()
    elif text.startswith(("./", "../")) or (is_database and ":" not in text):
        path = text.removeprefix("./")
    else:
        return None
    return f'is a path, not a URL: write "{_database_url(path) if is_database else _folder_url(path)}"'


def _database_url(path: str) -> str:
    return f"sqlite:///{path}"


def _folder_url(path: str) -> str:
    start = "file://" if path.startswith("/") else "file:///" if ":" in path else "file:"
    return start + quote(path, safe="/:")


def _scheme(scheme: str, rest: str, known: list[str]) -> str:
    port = re.match(r"[0-9]+", rest)
    if not rest.startswith("//") and ("@" in rest or port or "." in scheme or scheme == "localhost"):
        return f'lacks the scheme: write "{_PORTS.get(port[0] if port else "", "redis")}://" before the host'
    meant = _SCHEMES.get(scheme) or next(iter(difflib.get_close_matches(scheme, known, n=1)), None)
    if meant is not None:
        return f'has the unknown URL scheme "{scheme}": write "{meant}" instead'
    return (
        f'has the unknown URL scheme "{scheme}"; known are {", ".join(known)}, and schemes that installed packages add'
    )
