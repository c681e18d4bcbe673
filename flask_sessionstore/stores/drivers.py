"""What to install if a driver is missing."""

from __future__ import annotations

import importlib.util
import typing as t

from ..errors import ConfigurationError

#: Database -> the driver that the store is tested with. A URL may name another.
DRIVERS = {"postgresql": "psycopg", "mysql": "pymysql", "mariadb": "pymysql"}
# This package's extra -> what it installs of what the store imports.
_EXTRAS = {
    "dynamodb": ("boto3",),
    "memcached": ("pymemcache",),
    "mongodb": ("pymongo",),
    "mysql": ("sqlalchemy", "pymysql[rsa]"),  # without rsa, PyMySQL cannot log in to MySQL 8 with a password
    "postgresql": ("sqlalchemy", "psycopg[binary]"),
    "redis": ("redis",),
    "sqlalchemy": ("sqlalchemy",),
}
_EXTRA_OF = {"postgresql": "postgresql", "mysql": "mysql", "mariadb": "mysql"}
# Module -> the package that brings it, where that has another name.
_PACKAGES = {"bson": "pymongo", "botocore": "boto3"}
# SQLAlchemy's name of a driver -> its package, and package -> its module, where the names differ.
_DRIVER_PACKAGES = {
    "cx_oracle": "cx_Oracle",
    "mariadbconnector": "mariadb",
    "mysqlconnector": "mysql-connector-python",
    "mysqldb": "mysqlclient",
}
_MODULES = {"mysqlclient": "MySQLdb", "mysql-connector-python": "mysql"}


class DriverMissing(ConfigurationError):
    """A driver is not installed.

    :param packages: what to install.
    """

    def __init__(self, store: str, packages: t.Sequence[str], extra: str = "") -> None:
        command = " ".join(["pip install", *map(_quoted, packages)])
        drivers = "a driver that is" if len(packages) == 1 else "packages that are"
        hint = f" (this package's extra {extra!r})" if extra else ""
        super().__init__(f"{store} needs {drivers} not installed: {command}{hint}", key="SESSION_STORE")
        self.packages = packages


def missing(store: str, scheme: str, extra: str, error: ImportError) -> ConfigurationError:
    """The error for a store that could not be imported: what has to be installed, all of it.

    :param store: the name of the store's class.
    :param scheme: of the store's URL; a database's may name a driver.
    :param extra: of this package, for stores of this kind.
    :param error: the reason.
    """
    wanted, extra = _wanted(scheme, extra)
    module = (error.name or "").partition(".")[0]
    lacking = [package for package in wanted if not _is_there(package) or package == _PACKAGES.get(module)]
    if lacking:
        return DriverMissing(store, lacking, extra)
    package = wanted[-1]
    return ConfigurationError(
        f"{store}: {package.partition('[')[0]} is installed, but cannot be imported ({error}): pip install --upgrade"
        f" --force-reinstall {_quoted(package)}",
        key="SESSION_STORE",
    )


def _quoted(package: str) -> str:
    return f"'{package}'" if "[" in package else package


def all_of(found: t.Sequence[DriverMissing]) -> DriverMissing:
    """These errors as one."""
    return found[0] if len(found) == 1 else DriverMissing("SESSION_STORE", [p for each in found for p in each.packages])


def _wanted(scheme: str, extra: str) -> tuple[list[str], str]:
    """The packages for a URL, and the extra that brings them all, if there is one."""
    database, _, driver = scheme.partition("+")
    if extra != "sqlalchemy":
        return list(_EXTRAS[extra]), extra
    if driver in ("", DRIVERS.get(database)):
        extra = _EXTRA_OF.get(database, extra)
        return list(_EXTRAS[extra]), extra
    return ["sqlalchemy", _DRIVER_PACKAGES.get(driver, driver)], ""


def _is_there(package: str) -> bool:
    name = package.partition("[")[0]
    return importlib.util.find_spec(_MODULES.get(name, name)) is not None
