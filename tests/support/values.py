"""What the tests of the codec share: values of every type."""

from __future__ import annotations

import enum
import typing as t
from datetime import timedelta, timezone
from decimal import Decimal

from hypothesis import strategies as st
from markupsafe import Markup

# Offsets are whole seconds: Python reads those of less than a second, which no country has, as UTC.
zones = st.integers(-86_399, 86_399).map(lambda seconds: timezone(timedelta(seconds=seconds)))
texts = st.text() | st.text(st.characters(categories=["Cs", "Ll"]))  # "Cs": lone surrogates


def _folded(moment: t.Any, fold: int) -> t.Any:
    return moment.replace(fold=fold if moment.tzinfo is None else 0)  # at a fixed offset no hour comes twice


moments = st.builds(
    _folded, st.datetimes(timezones=st.none() | zones) | st.times(timezones=st.none() | zones), st.integers(0, 1)
)
hashable_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**600), 2**600),
    st.floats(),
    texts,
    st.binary(),
    moments,
    st.dates(),
    st.timedeltas(),
    st.uuids(),
    st.decimals(allow_nan=False),
    texts.map(Markup),
)
# A signalling NaN has no hash, and two quiet ones are two keys to Python but one to anybody else.
scalars = hashable_scalars | st.sampled_from([Decimal(text) for text in ("NaN", "sNaN", "-sNaN12", "-Infinity")])
members = st.recursive(hashable_scalars, lambda inner: st.tuples(inner, inner) | st.frozensets(inner), max_leaves=5)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner),
        st.tuples(inner, inner),
        st.dictionaries(texts, inner),
        st.dictionaries(hashable_scalars, inner),
        st.sets(members),
        st.frozensets(members),
    ),
    max_leaves=12,
)


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Point(t.NamedTuple):
    x: int
    y: int
