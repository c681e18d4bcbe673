"""SQLAlchemyStore: sessions in a table of a relational database."""

from .store import SQLAlchemyStore

__all__ = ["SQLAlchemyStore"]
