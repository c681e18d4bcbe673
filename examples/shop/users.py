"""Two people who may log in. A real shop would ask a database, and would not show passwords on its pages."""

from __future__ import annotations

from werkzeug.security import check_password_hash

PASSWORD_HASHES = {
    "ada": "scrypt:32768:8:1$J6Jk9mzhNcVfRvte$"
    "5b08e5515ad7397a3115961c49e3b18bcea7e53eee5aa0f1551184fe71c1b3bf"
    "a871b68aed84a2333c39a491a3bcd90d7d1eb73b4f9234e7a8086cc71ae30b18",
    "grace": "scrypt:32768:8:1$ymwZsB3zvCqTV3fz$"
    "6895b923792e99d9811631fc9b36a524b843d760ab249f491d018fdecfe5d771"
    "75dea067a39b81a9e9e56409d08af11f5c0c9a157b5147e8aee42fa26bfb32ff",
}


def password_is_right(name: str, password: str) -> bool:
    """Whether ``name`` is known and ``password`` is the password of this user."""
    return name in PASSWORD_HASHES and check_password_hash(PASSWORD_HASHES[name], password)
