"""Any record and any tombstone, for Hypothesis."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import strategies as st

from flask_sessionstore import Record
from flask_sessionstore.record import Tombstone, to_datetime

moments_ms = st.integers(0, 4_102_444_800_000)  # to the year 2100
revisions = st.binary(min_size=8, max_size=8).filter(any)
handles = st.binary(min_size=32, max_size=32).map(bytes.hex)
marks = st.binary(min_size=4, max_size=4)


@st.composite
def records(draw: st.DrawFn) -> Record:
    idle_ms = draw(st.integers(0, 10**12))
    return Record(
        state=draw(st.dictionaries(st.text(max_size=10), st.binary(max_size=10), max_size=5)),
        revisions=tuple(draw(st.lists(revisions, min_size=1, max_size=4))),
        owner=draw(st.none() | st.text(max_size=255)),
        permanent=draw(st.booleans()),
        lifetime=draw(st.sampled_from([None, timedelta(milliseconds=idle_ms)])),
        deadline=draw(st.none() | moments_ms.filter(bool).map(to_datetime)),
        client=draw(st.none() | st.text(max_size=255)),
        created_ms=draw(moments_ms),
        extended_ms=draw(moments_ms),
        expires_ms=draw(moments_ms),
        idle_ms=idle_ms,
        end_ms=draw(moments_ms),
    )


def tombstones() -> st.SearchStrategy[Tombstone]:
    return st.one_of(
        st.builds(
            Tombstone,
            kind=st.sampled_from(["ended", "emptied", "replaced", "revoked"]),
            revision=revisions,
            expires_ms=moments_ms,
            left_ms=moments_ms,
            before=marks,
            after=marks,
            successor=st.none(),
        ),
        st.builds(
            Tombstone,
            kind=st.sampled_from(["renewed", "signed in"]),
            revision=revisions,
            expires_ms=moments_ms,
            left_ms=moments_ms,
            before=marks,
            after=marks,
            successor=handles,
        ),
    )
