"""What one request did, done again on what another has written meanwhile."""

from __future__ import annotations

import typing as t

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flask_sessionstore import Record, SessionGetError, codec
from flask_sessionstore.changes import Changes, Update
from flask_sessionstore.draft import Draft
from flask_sessionstore.policy import Policy

State = dict[str, bytes]
Operation = tuple[str, str]  # what, and with which key


def loaded(state: t.Mapping[str, bytes]) -> Draft:
    """The draft of a request that has loaded ``state``."""
    draft = Draft(Policy())
    draft.start(Record(state=dict(state)))
    return draft


def encoded(**values: object) -> State:
    return {key: codec.encode(value, key) for key, value in values.items()}


def decoded(state: t.Mapping[str, bytes]) -> dict[str, t.Any]:
    return {key: codec.decode(data) for key, data in state.items()}


def data_of(draft: Draft) -> dict[str, t.Any]:
    """What a view would read."""
    return {key: draft.read(key) for key in draft.state}


def request(state: t.Mapping[str, bytes], operations: t.Iterable[Operation]) -> Draft:
    """A draft that was loaded with ``state``, and what a view did to it. Values are lists of who wrote when."""
    draft = loaded(state)
    for number, (what, key) in enumerate(operations):
        if what == "set":
            draft.write(key, ["set", number])
        elif what == "remove" and key in draft.state:
            draft.remove(key)
        elif what == "nested" and key in draft.state:
            draft.read(key).append(number)
        elif what == "update":
            draft.update(key, ["default"], lambda old, n=number: [*old, n])  # type: ignore[misc]
        elif what == "clear":
            draft.clear()
    draft.notice()
    return draft


def operations(*kinds: str) -> st.SearchStrategy[list[Operation]]:
    return st.lists(st.tuples(st.sampled_from(kinds), st.sampled_from("abcd")), max_size=8)


BASE = encoded(a=["a"], b=["b"])

# -- alone ---------------------------------------------------------------------------------------------------------


@given(operations("set", "remove", "nested", "update", "clear"))
def test_the_changes_of_a_request_make_of_what_it_loaded_what_it_has(done: list[Operation]) -> None:
    draft = request(BASE, done)
    assert decoded(draft.changes.apply(BASE)) == data_of(draft)


@given(operations("set", "remove", "update"))
@example([("set", "c"), ("set", "d"), ("set", "c")])
def test_the_changes_of_a_request_keep_the_order_that_it_has(done: list[Operation]) -> None:
    draft = request(BASE, done)
    assert list(draft.changes.apply(BASE)) == list(draft.state)


@given(operations("set", "remove", "nested", "update", "clear"))
def test_applying_changes_leaves_alone_what_they_are_applied_to(done: list[Operation]) -> None:
    changes = request(BASE, done).changes
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
    assert decoded(request(BASE, done).changes.apply(newest)) == data_of(request(newest, done))


@given(operations("set", "remove", "nested", "update"))
def test_what_another_request_did_to_other_keys_stays(done: list[Operation]) -> None:
    merged = request(BASE, done).changes.apply({**BASE, **encoded(y=1, z=2)})
    assert decoded(merged).items() >= {"y": 1, "z": 2}.items()


@given(operations("set", "remove", "nested", "update", "clear"))
def test_after_a_clear_nothing_that_anybody_wrote_before_is_left(done: list[Operation]) -> None:
    merged = request(BASE, [("set", "e"), ("clear", "a"), *done]).changes.apply(encoded(y=1, z=2))
    assert merged.keys() <= {key for what, key in done if what in ("set", "update")}


def test_of_two_plain_sets_the_later_wins() -> None:
    changes = request(BASE, [("set", "a")]).changes
    assert decoded(changes.apply(encoded(a="of another request"))) == {"a": ["set", 0]}


def test_a_plain_set_applies_to_a_key_that_another_request_removed() -> None:
    assert decoded(request(BASE, [("set", "a")]).changes.apply({})) == {"a": ["set", 0]}


def test_a_removal_wins_over_a_nested_change_of_the_value_removed() -> None:
    assert request(BASE, [("nested", "a")]).changes.apply(encoded(b=1)) == encoded(b=1)
    assert request(BASE, [("remove", "a")]).changes.apply(encoded(a=["nested change"])) == {}


def test_a_nested_change_of_a_value_set_by_the_same_request_is_part_of_that_set() -> None:
    changes = request(BASE, [("set", "a"), ("nested", "a"), ("nested", "a")]).changes
    assert decoded(changes.apply({})) == {"a": ["set", 0, 1, 2]}


def test_of_two_nested_changes_of_one_value_the_later_wins() -> None:
    changes = request(BASE, [("nested", "a")]).changes
    assert decoded(changes.apply(encoded(a=["a", "of another request"]))) == {"a": ["a", 0]}


@given(st.integers(1, 5), st.integers(0, 100))
def test_an_updater_counts_on_from_the_newest_value(times: int, newest: int) -> None:
    draft = loaded(encoded(n=0))
    for _ in range(times):
        draft.update("n", 1, lambda n: n + 1)
    assert decoded(draft.changes.apply(encoded(n=newest))) == {"n": newest + times}
    assert decoded(draft.changes.apply({})) == {"n": times}


def test_an_updater_gets_a_fresh_value_each_time() -> None:
    def add(log: list[str]) -> list[str]:
        log.append("in place")
        return log

    draft = loaded(encoded(log=[]))
    draft.update("log", [], add)
    for newest in ([], ["newest"], ["newest"]):
        assert decoded(draft.changes.apply(encoded(log=newest))) == {"log": [*newest, "in place"]}


def test_an_updater_that_does_not_fit_the_newest_value_is_an_error() -> None:
    draft = loaded(encoded(n=1))
    draft.update("n", 1, lambda n: n + 1, type=int)
    with pytest.raises(SessionGetError):
        draft.changes.apply(encoded(n="text"))


def test_an_equal_assignment_is_no_change_for_others_to_lose_theirs_to() -> None:
    draft = loaded(encoded(a=1))
    draft.write("a", 1)
    assert draft.changes.apply(encoded(a=2)) == encoded(a=2)


def test_a_plain_set_after_an_updater_applies_though_it_equals_the_updaters_result() -> None:
    draft = loaded(encoded(n=1))
    draft.update("n", 1, lambda n: n + 1)
    draft.write("n", 2)
    assert draft.changes.apply(encoded(n=5)) == encoded(n=2)


def test_a_value_changed_in_place_and_set_again_is_set_whether_or_not_anybody_asked_in_between() -> None:
    draft = loaded(BASE)
    draft.read("a").append("more")
    assert draft.is_changed()
    draft.write("a", draft.read("a"))
    assert decoded(draft.changes.apply({})) == {"a": ["a", "more"]}


def test_a_key_set_again_after_its_removal_goes_to_the_end() -> None:
    assert list(request(BASE, [("remove", "a"), ("set", "a")]).changes.apply(BASE)) == ["b", "a"]


# -- what a request wrote by itself --------------------------------------------------------------------------------


@given(operations("set", "remove", "nested", "update", "clear"))
def test_what_a_request_wrote_by_itself_is_what_it_had_written_without_having_loaded_anything(
    done: list[Operation],
) -> None:
    without_nested = [operation for operation in done if operation[0] != "nested"]
    if done == without_nested:
        assert decoded(request(BASE, done).changes.own()) == data_of(request({}, done))
    assert request(BASE, done).changes.own().keys() <= {key for what, key in done if what in ("set", "update")}


def test_nothing_that_was_loaded_is_ones_own() -> None:
    draft = loaded(encoded(n=5, cart=["old"], gone=1))
    draft.update("n", 1, lambda n: n + 1)
    draft.read("cart").append("new")
    draft.write("set", [1])
    draft.read("set").append(2)
    draft.remove("gone")
    draft.notice()
    assert decoded(draft.changes.own()) == {"n": 1, "set": [1, 2]}


def test_a_nested_change_of_what_an_updater_gave_is_not_ones_own() -> None:
    draft = loaded(encoded(cart=["old"]))
    draft.update("cart", ["default"], lambda cart: [*cart, "new"])
    draft.read("cart").append("more")
    draft.notice()
    assert draft.read("cart") == ["old", "new", "more"]
    assert decoded(draft.changes.own()) == {"cart": ["default"]}


def test_an_update_can_be_logged_by_itself() -> None:
    changes = Changes()
    changes.update("n", Update(codec.encode(1, "n"), lambda n: n + 1, None))
    assert "n" in changes
    assert decoded(changes.apply(encoded(n=7))) == {"n": 8}
