"""A session as a mapping: whatever a dict does, typed reads, update_or, and what it notices within values."""

from __future__ import annotations

import dataclasses
import enum
import logging
import threading
import typing as t
from collections.abc import MutableMapping

import pytest
from flask import Flask
from flask.sessions import SessionMixin
from jinja2 import Environment
from markupsafe import Markup
from session_support import CHANGED, UNCHANGED, Browser
from werkzeug.datastructures import MultiDict

from flask_sessionstore import Session, SessionGetError, SessionInsertError, lookalikes
from flask_sessionstore.visitor import Send

SECRET = "tops3cret"


# -- a mapping -------------------------------------------------------------------------------------------------------


def test_a_session_is_flasks_and_a_mutable_mapping() -> None:
    assert isinstance(Session(), SessionMixin)
    assert isinstance(Session(), MutableMapping)


def test_a_free_standing_session_starts_with_its_data_untouched() -> None:
    session = Session({"a": 1, "b": [2]})
    assert (session.accessed, session.modified, session.status) == (False, False, UNCHANGED)
    assert session == {"a": 1, "b": [2]}


def test_an_application_is_no_data_and_the_error_names_the_manager() -> None:
    with pytest.raises(TypeError, match="SessionManager"):
        Session(Flask("shop"))  # type: ignore[arg-type]


def test_it_reads_as_a_dict_does() -> None:
    session = Session({"a": 1, "b": 2})
    assert session["a"] == session.get("a") == 1
    assert session.get("c") is None
    assert session.get("c", 3) == 3
    assert "a" in session
    assert "c" not in session
    assert len(session) == 2
    assert session
    assert not Session()
    assert list(session) == list(session.keys()) == ["a", "b"]
    assert list(session.values()) == [1, 2]
    assert list(session.items()) == [("a", 1), ("b", 2)]
    assert list(reversed(session)) == ["b", "a"]
    with pytest.raises(KeyError):
        session["c"]


def test_it_is_equal_to_any_mapping_of_the_same_pairs() -> None:
    session = Session({"a": 1, "b": [2]})
    assert session == {"b": [2], "a": 1} == session
    assert session == Session({"a": 1, "b": [2]})
    assert session != {"a": 1}
    assert session != t.cast("object", [("a", 1), ("b", [2])])


def test_it_writes_as_a_dict_does() -> None:
    session = Session()
    session["a"] = 1
    session.update({"b": 2}, c=3)
    session.update([("d", 4)])
    assert session.setdefault("a", 9) == 1
    assert session.setdefault("e", 5) == 5
    assert session.setdefault("f") is None
    del session["b"]
    with pytest.raises(KeyError):
        del session["b"]
    assert session == {"a": 1, "c": 3, "d": 4, "e": 5, "f": None}


class Row:
    """Has keys, and iterates over its values, as a database's rows do."""

    def keys(self) -> list[str]:
        return ["a"]

    def __getitem__(self, key: str) -> str:
        return f"value of {key}"

    def __iter__(self) -> t.Iterator[str]:
        return iter(["value of a"])


def test_an_update_takes_what_a_dict_takes() -> None:
    session = Session()
    session.update(Row())
    assert session == {"a": "value of a"}
    session.update(MultiDict([("a", 1), ("a", 2)]))
    assert session == {"a": 1}
    session.update()
    session.update((key, 3) for key in "ab")
    assert session == {"a": 3, "b": 3}
    with pytest.raises(TypeError):
        session.update(5)  # type: ignore[call-overload]


def test_an_update_sets_what_stands_before_a_value_that_cannot_be_kept() -> None:
    session = Session()
    with pytest.raises(SessionInsertError, match="'bad'"):
        session.update({"before": 1, "bad": object(), "after": 2})
    assert session == {"before": 1}


def test_it_pops_as_a_dict_does() -> None:
    session = Session({"a": [1], "b": 2, "c": 3})
    assert session.pop("a") == [1]
    assert session.pop("a", None) is None
    assert session.pop("a", "default") == "default"
    with pytest.raises(KeyError, match="a"):
        session.pop("a")
    assert session.popitem() == ("c", 3)
    assert session.popitem() == ("b", 2)
    with pytest.raises(KeyError):
        session.popitem()
    assert session == {}


def test_its_union_with_a_mapping_is_a_dict() -> None:
    session = Session({"a": 1, "b": 2})
    for union, expected in (
        (session | {"b": 3}, {"a": 1, "b": 3}),
        ({"b": 3} | session, {"b": 2, "a": 1}),
        (session | Session({"c": 4}), {"a": 1, "b": 2, "c": 4}),
    ):
        assert type(union) is dict
        assert list(union.items()) == list(expected.items())
    with pytest.raises(TypeError):
        session | 5  # type: ignore[operator]
    assert not session.modified


def test_its_union_in_place_is_an_update() -> None:
    session = same = Session({"a": 1})
    session |= {"b": 2}
    session |= [("c", 3)]  # type: ignore[arg-type]  # as dict takes it
    assert session is same
    assert session == {"a": 1, "b": 2, "c": 3}
    assert session.modified


def test_a_copy_is_a_plain_dict_with_the_values_it_has() -> None:
    session = Session({"a": [1]})
    copy = session.copy()
    assert type(copy) is dict
    copy["b"] = 2
    assert "b" not in session
    assert copy["a"] is session["a"]


def test_entries_are_a_view_that_cannot_be_written_to() -> None:
    session = Session({"a": 1, "b": [2]})
    assert session.entries() == {"a": 1, "b": [2]}
    with pytest.raises(TypeError):
        session.entries()["a"] = 2  # type: ignore[index]


def test_order_is_kept_as_in_a_dict() -> None:
    session = Session({"a": 1, "b": 2})
    session["a"] = 3
    assert list(session) == ["a", "b"]
    del session["a"]
    session["a"] = 4
    assert list(session) == ["b", "a"]


def test_it_may_be_changed_while_it_is_iterated() -> None:
    session = Session({"a": 1, "b": 2})
    for key in session:
        del session[key]
    assert not session


@pytest.mark.parametrize("key", [1, None, b"a", ("a",)])
def test_a_key_that_is_no_text_is_refused_on_writing_and_absent_on_reading(key: t.Any) -> None:
    session = Session()
    with pytest.raises(SessionInsertError, match="session keys are text"):
        session[key] = 1
    assert key not in session
    assert session.get(key) is None
    assert not session.modified


def test_a_key_of_a_subclass_of_str_is_stored_as_text() -> None:
    class Name(enum.StrEnum):
        CART = "cart"

    session = Session({Name.CART: 1})
    assert [type(key) for key in session] == [str]
    assert session[Name.CART] == session["cart"] == 1


def test_a_key_that_no_store_can_keep_is_refused_at_the_line_that_stores_it(browser: Browser) -> None:
    session = browser.open()
    with pytest.raises(SessionInsertError):
        session["\ud800"] = 1


# -- nested changes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "change", "expected"),
    [
        ([1], lambda v: v.append(2), [1, 2]),
        ({"a": {"b": [1]}}, lambda v: v["a"]["b"].append(2), {"a": {"b": [1, 2]}}),
        ({1}, lambda v: v.add(2), {1, 2}),
        ((1, [2]), lambda v: v[1].append(3), (1, [2, 3])),
        (({"a": ()},), lambda v: v[0].update(a=(1,)), ({"a": (1,)},)),
        ({"a": 1, "b": 2}, lambda v: v.update(a=v.pop("a")), {"b": 2, "a": 1}),
    ],
)
def test_a_change_within_a_value_is_noticed_and_stored(
    browser: Browser, value: t.Any, change: t.Callable[[t.Any], object], expected: object
) -> None:
    browser.write(v=value)
    session = browser.open()
    change(session["v"])
    assert (session.modified, session.status) == (True, CHANGED)
    assert browser.end(session) is Send
    assert browser.read() == {"v": expected}


def test_a_change_within_a_value_that_was_just_set_is_part_of_it(browser: Browser) -> None:
    session = browser.open()
    cart: list[int] = []
    session["cart"] = cart
    cart.append(1)
    browser.end(session)
    assert browser.read() == {"cart": [1]}


def test_a_change_that_was_taken_back_is_none(browser: Browser) -> None:
    browser.write(cart=[1])
    session = browser.open()
    session["cart"].append(2)
    session["cart"].pop()
    assert not session.modified
    browser.end(session)
    assert browser.store.calls == ["load"]


def test_a_set_in_another_order_is_no_change(browser: Browser) -> None:
    browser.write(tags=set("abcdefgh"))
    session = browser.open()
    session["tags"].clear()
    session["tags"].update("hgfedcba")
    assert not session.modified


def test_an_updater_sees_what_was_changed_in_place_before() -> None:
    session = Session({"cart": [1]})
    session["cart"].append(2)
    session.update_or("cart", [], lambda cart: [*cart, 3])
    assert session["cart"] == [1, 2, 3]


# -- typed reads -----------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Article:
    name: str
    price: int


def test_get_as_gives_the_type_asked_for_and_the_default_for_an_absent_key_only() -> None:
    session = Session({"n": 5, "cart": [{"name": "tea", "price": 3}], "none": None})
    assert session.get_as("n", int) == 5
    assert session.get_as("cart", list[Article]) == [Article("tea", 3)]
    assert session.get_as("absent", int) is None
    assert session.get_as("absent", int, 7) == 7
    assert session.get_as("none", int | None, 7) is None
    with pytest.raises(SessionGetError):
        session.get_as("none", int, 7)


def test_a_misfit_names_the_place_and_the_type_and_never_the_value() -> None:
    session = Session({"cart": [{"name": "tea", "price": SECRET}]})
    with pytest.raises(SessionGetError) as caught:
        session.get_as("cart", list[Article])
    error = caught.value
    assert (error.path, error.expected) == ("cart[0].price", list[Article])
    assert isinstance(error, ValueError)
    assert SECRET not in str(error)
    assert "cart" in session


def test_a_converted_value_is_not_the_one_that_is_kept() -> None:
    session = Session({"article": Article("tea", 3)})
    article = t.cast("Article", session.get_as("article", Article))
    article.price = 4
    assert session["article"] == {"name": "tea", "price": 3}
    assert not session.modified


def test_remove_returns_the_value_or_none() -> None:
    session = Session({"a": 1})
    assert session.remove("a") == 1
    assert session.remove("a") is None
    assert session == {}


def test_remove_as_removes_even_what_does_not_fit_and_hands_it_over() -> None:
    session = Session({"n": 5, "misfit": SECRET})
    assert session.remove_as("n", int) == 5
    assert session.remove_as("n", int) is None
    with pytest.raises(SessionGetError) as caught:
        session.remove_as("misfit", int)
    assert caught.value.value == SECRET
    assert SECRET not in str(caught.value)
    assert session == {}


# -- update_or -------------------------------------------------------------------------------------------------------


def test_update_or_sets_the_default_first_and_calls_the_updater_then() -> None:
    session = Session()
    values = []
    for _ in range(3):
        session.update_or("n", 1, lambda n: n + 1)
        values.append(session["n"])
    assert values == [1, 2, 3]


def test_update_or_returns_the_value_as_the_session_has_it(browser: Browser) -> None:
    session = Session()
    assert [session.update_or("n", 1, lambda n: n + 1) for _ in range(3)] == [1, 2, 3]
    assert session.update_or("line", None, lambda line: line) is None
    assert session.update_or("line", None, lambda line: Article("mug", 2)) == {"name": "mug", "price": 2}
    session = browser.open()
    cart = session.update_or("cart", ["mug"], lambda cart: cart)
    assert cart is session["cart"]
    cart.append("plate")
    browser.end(session)
    assert browser.read() == {"cart": ["mug", "plate"]}
    session = browser.open()
    session.purge()
    assert session.update_or("cart", [], lambda cart: cart) is None


def test_update_or_is_replayed_on_what_another_request_wrote(browser: Browser) -> None:
    browser.write(n=10)
    first, second = browser.open(), browser.open()
    for session in (first, second):
        session.update_or("n", 1, lambda n: n + 1)
    browser.end(first)
    browser.end(second)
    assert browser.read() == {"n": 12}


def test_update_or_converts_for_its_updater() -> None:
    session = Session({"article": Article("tea", 3)})
    session.update_or("article", None, lambda a: dataclasses.replace(a, price=a.price + 1), type=Article)
    assert session["article"] == {"name": "tea", "price": 4}
    with pytest.raises(SessionGetError):
        session.update_or("article", None, lambda n: n, type=int)


@pytest.mark.parametrize("default", [1j, 1])
def test_update_or_refuses_what_cannot_be_kept(default: object) -> None:
    session = Session({} if default == 1j else {"n": 1})
    before = session.copy()
    with pytest.raises(SessionInsertError):
        session.update_or("n", default, lambda n: 1j)
    assert session == before
    assert not session.modified


def test_an_updater_that_raises_changes_nothing() -> None:
    session = Session({"n": 0})
    with pytest.raises(ZeroDivisionError):
        session.update_or("n", 1, lambda n: 1 // n)
    assert session == {"n": 0}
    assert not session.modified


def test_update_or_refuses_a_key_that_is_no_text() -> None:
    with pytest.raises(SessionInsertError):
        Session().update_or(5, 1, lambda n: n)  # type: ignore[arg-type]


# -- threads ---------------------------------------------------------------------------------------------------------


def test_threads_may_share_a_session(browser: Browser) -> None:
    browser.write(n=0)
    session = browser.open()
    start = threading.Barrier(8)

    def work(name: str) -> None:
        start.wait()
        for i in range(50):
            session[f"{name}{i}"] = [i]
            session.update_or("n", 0, lambda n: n + 1)
            assert session.get(f"{name}{i}") == [i]
            list(session.items())

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcdefgh"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    browser.end(session)
    values = browser.read()
    assert values.pop("n") == 400
    assert len(values) == 400


def test_a_markup_value_stays_markup(browser: Browser) -> None:
    browser.write(message=Markup("<b>hello</b>"))
    assert type(browser.read()["message"]) is Markup


def test_nothing_is_logged_by_ordinary_requests(browser: Browser, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "flask_sessionstore")
    browser.write(a=1)
    browser.read()
    assert caplog.records == []


# -- attributes that it does not have ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("sid", "session.handle, which is public; the session key itself is only in the cookie"),
        ("session_id", "session.handle, which is public; the session key itself is only in the cookie"),
        ("permanant", "session.permanent"),
        ("modifed", "session.modified"),
        ("max_age", "session.lifetime"),
        ("expires", "session.expires_at"),
        ("regenerate", "session.renew()"),
        ("invalidate", "session.clear() to sign out, or session.purge()"),
        ("user", "an item such as session['user_id']; SESSION_OWNER_KEY says which item is the owner"),
    ],
)
def test_an_attribute_of_another_library_and_a_misspelling_name_the_right_one(name: str, remedy: str) -> None:
    session = Session({name: "an item"})
    for use in (
        lambda: getattr(session, name),
        lambda: setattr(session, name, True),
        lambda: getattr(Session, name),
    ):
        with pytest.raises(AttributeError) as caught:
            use()
        assert str(caught.value) == f"a session has no attribute {name!r}: write {remedy}"
    assert not hasattr(session, name)
    assert name not in dir(session)
    assert Environment(autoescape=True).from_string(f"{{{{ session.{name} }}}}").render(session=session) == "an item"


def test_no_attribute_of_a_session_is_among_them() -> None:
    assert lookalikes.NAMES.isdisjoint(dir(Session()))
    assert {name for name in dir(Session()) if name[0] != "_"} >= {"permanent", "modified", "renew", "handle"}


def test_a_subclass_may_have_attributes_by_these_names() -> None:
    class OwnSession(Session):
        owner: str | None = None

    session = OwnSession()
    session.owner = "ann"
    assert session.owner == "ann"
