"""SQLAlchemyStore: sessions in a table of a relational database."""

from .store import SQLAlchemyStore, TableMissing

__all__ = ["SQLAlchemyStore", "TableMissing"]
