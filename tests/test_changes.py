"""What one request did, done again on what another has written meanwhile."""

from __future__ import annotations

import typing as t

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flask_sessionstore import Record, Session, SessionError, SessionGetError, codec
from flask_sessionstore.changes import Changes, Update
from flask_sessionstore.policy import Rules

State = dict[str, bytes]
Operation = tuple[str, str]  # what, and with which key


class Loaded:
    """A session's source that has loaded a record, and is asked for nothing else."""

    rules = Rules()

    def __init__(self, state: t.Mapping[str, bytes]) -> None:
        self._record = Record(state=dict(state))

    def load(self) -> Record | None:
        return self._record

    def seed(self) -> None:
        return None

    def known_permanent(self) -> None:
        return None

    def handle(self) -> None:
        return None

    def has_body(self) -> bool:
        return False

    def save(self, session: Session) -> None:
        raise SessionError

    def reload(self) -> None:
        raise SessionError


def encoded(**values: object) -> State:
    return {key: codec.encode(value, key) for key, value in values.items()}


def decoded(state: t.Mapping[str, bytes]) -> dict[str, t.Any]:
    return {key: codec.decode(data) for key, data in state.items()}


def request(state: t.Mapping[str, bytes], operations: t.Iterable[Operation]) -> Session:
    """A session that was loaded with ``state``, and what a view did to it. Values are lists of who wrote when."""
    session = Session._of(Loaded(state))
    for number, (what, key) in enumerate(operations):
        if what == "set":
            session[key] = ["set", number]
        elif what == "remove":
            session.remove(key)
        elif what == "nested" and key in session:
            session[key].append(number)
        elif what == "update":
            session.update_or(key, ["default"], lambda old, n=number: [*old, n])  # type: ignore[misc]
        elif what == "clear":
            session.clear()
    session._notice_all()
    return session


def operations(*kinds: str) -> st.SearchStrategy[list[Operation]]:
    return st.lists(st.tuples(st.sampled_from(kinds), st.sampled_from("abcd")), max_size=8)


BASE = encoded(a=["a"], b=["b"])

# -- alone ---------------------------------------------------------------------------------------------------------


@given(operations("set", "remove", "nested", "update", "clear"))
def test_the_changes_of_a_request_make_of_what_it_loaded_what_it_has(done: list[Operation]) -> None:
    session = request(BASE, done)
    assert decoded(session._changes.apply(BASE)) == session.copy()


@given(operations("set", "remove", "update"))
@example([("set", "c"), ("set", "d"), ("set", "c")])
def test_the_changes_of_a_request_keep_the_order_that_it_has(done: list[Operation]) -> None:
    session = request(BASE, done)
    assert list(session._changes.apply(BASE)) == list(session)


@given(operations("set", "remove", "nested", "update", "clear"))
def test_applying_changes_leaves_alone_what_they_are_applied_to(done: list[Operation]) -> None:
    changes = request(BASE, done)._changes
    before = dict(BASE)
    first = changes.apply(BASE)
    assert before == BASE
    assert changes.apply(BASE) == first


def test_no_changes_are_false_and_change_nothing() -> None:
    changes = Changes()
    assert not changes
    assert not changes.writes
    assert changes.apply(BASE) == BASE
    assert changes.own() == {}


# -- after another request's writes --------------------------------------------------------------------------------


@given(operations("set", "remove", "update", "clear"))
def test_sets_removals_and_updates_give_what_they_would_have_given_one_after_the_other(
    done: list[Operation],
) -> None:
    newest = encoded(a=["newer a"], b=["newer b"], z=["another key"])
    assert decoded(request(BASE, done)._changes.apply(newest)) == request(newest, done).copy()


@given(operations("set", "remove", "nested", "update"))
def test_what_another_request_did_to_other_keys_stays(done: list[Operation]) -> None:
    merged = request(BASE, done)._changes.apply({**BASE, **encoded(y=1, z=2)})
    assert decoded(merged).items() >= {"y": 1, "z": 2}.items()


@given(operations("set", "remove", "nested", "update", "clear"))
def test_after_a_clear_nothing_that_anybody_wrote_before_is_left(done: list[Operation]) -> None:
    merged = request(BASE, [("set", "e"), ("clear", "a"), *done])._changes.apply(encoded(y=1, z=2))
    assert merged.keys() <= {key for what, key in done if what in ("set", "update")}


def test_of_two_plain_sets_the_later_wins() -> None:
    changes = request(BASE, [("set", "a")])._changes
    assert decoded(changes.apply(encoded(a="of another request"))) == {"a": ["set", 0]}


def test_a_plain_set_applies_to_a_key_that_another_request_removed() -> None:
    assert decoded(request(BASE, [("set", "a")])._changes.apply({})) == {"a": ["set", 0]}


def test_a_removal_wins_over_a_nested_change_of_the_value_removed() -> None:
    assert request(BASE, [("nested", "a")])._changes.apply(encoded(b=1)) == encoded(b=1)
    assert request(BASE, [("remove", "a")])._changes.apply(encoded(a=["nested change"])) == {}


def test_a_nested_change_of_a_value_set_by_the_same_request_is_part_of_that_set() -> None:
    changes = request(BASE, [("set", "a"), ("nested", "a"), ("nested", "a")])._changes
    assert decoded(changes.apply({})) == {"a": ["set", 0, 1, 2]}


def test_of_two_nested_changes_of_one_value_the_later_wins() -> None:
    changes = request(BASE, [("nested", "a")])._changes
    assert decoded(changes.apply(encoded(a=["a", "of another request"]))) == {"a": ["a", 0]}


@given(st.integers(1, 5), st.integers(0, 100))
def test_an_updater_counts_on_from_the_newest_value(times: int, newest: int) -> None:
    session = Session._of(Loaded(encoded(n=0)))
    for _ in range(times):
        session.update_or("n", 1, lambda n: n + 1)
    assert decoded(session._changes.apply(encoded(n=newest))) == {"n": newest + times}
    assert decoded(session._changes.apply({})) == {"n": times}


def test_an_updater_gets_a_fresh_value_each_time() -> None:
    def add(log: list[str]) -> list[str]:
        log.append("in place")
        return log

    session = Session._of(Loaded(encoded(log=[])))
    session.update_or("log", [], add)
    for newest in ([], ["newest"], ["newest"]):
        assert decoded(session._changes.apply(encoded(log=newest))) == {"log": [*newest, "in place"]}


def test_an_updater_that_does_not_fit_the_newest_value_is_an_error() -> None:
    session = Session._of(Loaded(encoded(n=1)))
    session.update_or("n", 1, lambda n: n + 1, type=int)
    with pytest.raises(SessionGetError):
        session._changes.apply(encoded(n="text"))


def test_an_equal_assignment_is_no_change_for_others_to_lose_theirs_to() -> None:
    session = Session._of(Loaded(encoded(a=1)))
    session["a"] = 1
    assert session._changes.apply(encoded(a=2)) == encoded(a=2)


def test_a_plain_set_after_an_updater_applies_though_it_equals_the_updaters_result() -> None:
    session = Session._of(Loaded(encoded(n=1)))
    session.update_or("n", 1, lambda n: n + 1)
    session["n"] = 2
    assert session._changes.apply(encoded(n=5)) == encoded(n=2)


def test_a_value_changed_in_place_and_set_again_is_set_whether_or_not_anybody_asked_in_between() -> None:
    session = Session._of(Loaded(BASE))
    session["a"].append("more")
    assert session.modified
    session["a"] = session["a"]
    assert decoded(session._changes.apply({})) == {"a": ["a", "more"]}


def test_a_key_set_again_after_its_removal_goes_to_the_end() -> None:
    assert list(request(BASE, [("remove", "a"), ("set", "a")])._changes.apply(BASE)) == ["b", "a"]


# -- what a request wrote by itself --------------------------------------------------------------------------------


@given(operations("set", "remove", "nested", "update", "clear"))
def test_what_a_request_wrote_by_itself_is_what_it_had_written_without_having_loaded_anything(
    done: list[Operation],
) -> None:
    without_nested = [operation for operation in done if operation[0] != "nested"]
    if done == without_nested:
        assert decoded(request(BASE, done)._changes.own()) == request({}, done).copy()
    assert request(BASE, done)._changes.own().keys() <= {key for what, key in done if what in ("set", "update")}


def test_nothing_that_was_loaded_is_ones_own() -> None:
    session = Session._of(Loaded(encoded(n=5, cart=["old"], gone=1)))
    session.update_or("n", 1, lambda n: n + 1)
    session["cart"].append("new")
    session["set"] = [1]
    session["set"].append(2)
    del session["gone"]
    session._notice_all()
    assert decoded(session._changes.own()) == {"n": 1, "set": [1, 2]}


def test_a_nested_change_of_what_an_updater_gave_is_not_ones_own() -> None:
    session = Session._of(Loaded(encoded(cart=["old"])))
    session.update_or("cart", ["default"], lambda cart: [*cart, "new"])
    session["cart"].append("more")
    session._notice_all()
    assert session["cart"] == ["old", "new", "more"]
    assert decoded(session._changes.own()) == {"cart": ["default"]}


def test_an_update_can_be_logged_by_itself() -> None:
    changes = Changes()
    changes.update("n", Update(codec.encode(1, "n"), lambda n: n + 1, None))
    assert "n" in changes
    assert decoded(changes.apply(encoded(n=7))) == {"n": 8}
