"""Each promise of SECURITY.rst, word by word, and the tests that keep it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from attacks import identity, target
from http_support import Browser, started
from views import clear, renew

from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import Clock

TESTS = Path(__file__).resolve().parents[1]
SECURITY = TESTS.parent / "SECURITY.rst"

#: By adversary and by promise: file and function of each test.
PROMISES: dict[str, dict[str, list[str]]] = {
    "Thief of a cookie": {
        "Is the visitor until the session ends, and no longer": [
            "security/test_replay.py::test_after_a_log_out_the_old_cookie_is_worth_nothing",
            "security/test_replay.py::test_a_token_is_believed_until_its_end_and_never_after",
            "security/test_replay.py::test_a_thief_whose_request_is_under_way_brings_nothing_back",
            "security/test_starvation.py::test_sixteen_threads_with_the_stolen_cookie_keep_nobody",
        ],
        "keeps a session that they renew themselves until it is revoked or its deadline comes": [
            "security/test_promises.py::test_a_thief_who_renews_keeps_the_session_until_somebody_reaches_it",
        ],
        "with the cookie store, copies work until they expire": [
            "security/test_replay.py::test_the_cookie_store_cannot_take_back_what_it_gave_and_says_so",
        ],
    },
    "Neighbour on another host or path": {
        "A cookie that they plant is not used, or costs a sign-in at most": [
            "security/test_fixation.py::test_after_a_log_in_a_planted_cookie_is_worth_nothing",
            "security/test_cookie_header.py::test_a_name_that_begins_or_ends_with_no_true_blank_is_another_name",
            "ecosystem/test_browser.py::test_a_planted_name_that_only_begins_with_a_blank_is_not_heard",
            "lifecycle/test_cookie_attributes.py::test_applications_at_two_paths_with_one_secret_and_one_cookie_name_do_not_meet",
        ],
        "a log-in or log-out that is answered with success has happened": [
            "security/test_two_cookies.py::test_every_way_out_is_one_at_once",
            "security/test_two_cookies.py::test_a_log_in_is_one_at_once",
            "security/test_two_cookies.py::test_a_log_out_beside_another_request_of_the_page_holds_in_either_order",
            "ecosystem/test_browser.py::test_a_log_out_with_two_living_cookies_is_one",
            "ecosystem/test_browser.py::test_a_log_in_with_two_living_cookies_holds_at_once",
        ],
    },
    "Thief of a copy of the store": {
        "Can use no session": [
            "security/test_stolen_store.py::test_no_cookie_can_be_made_from_it_even_with_the_secret"
        ],
        "with ``SESSION_SEAL`` reads no value": [
            "security/test_stolen_store.py::test_sealed_it_holds_no_value_and_no_name_of_one",
        ],
    },
    "Thief of ``SECRET_KEY``": {
        "Can use no session": ["security/test_stolen_store.py::test_with_the_secret_alone_nobody_is_somebody_else"],
        "with a copy of the store too, read no sealed value": [
            "security/test_stolen_store.py::test_sealed_it_opens_for_nobody_who_lacks_the_cookie",
        ],
        "this is not promised with the cookie store": [
            "security/test_stolen_store.py::test_with_the_secret_alone_nobody_is_somebody_else",
        ],
        "nor for other data that are signed with it": [
            "security/test_key_confusion.py::test_our_token_is_nothing_to_others",
            "units/test_signing.py::test_an_hmac_of_any_text_under_the_secret_gives_no_key_away",
        ],
    },
    "Malicious client": {
        "No session key of their choice is ever used": [
            "security/test_fixation.py::test_no_verb_adopts_a_key_that_the_server_does_not_know",
            "security/test_fixation.py::test_no_store_adopts_a_key_that_it_does_not_know",
            "security/test_tampering.py::test_no_character_of_a_token_can_be_changed",
        ],
        "nothing that one request sends, however long, makes the application fail, run code, or mix up visitors": [
            "security/test_headers.py::test_a_long_header_is_no_session_and_costs_a_dozen_times_its_length",
            "security/test_cookie_header.py::test_of_any_header_flask_and_we_hear_the_same",
            "security/test_injection.py::test_a_hostile_cookie_is_no_session_and_reaches_no_store",
            "security/test_injection.py::test_hostile_keys_and_values_come_back_as_they_were",
        ],
    },
    "Neighbour or writer in the store": {
        "No bytes run code or fail for more than one visitor": [
            "security/test_hostile_store.py::test_what_is_no_record_is_no_session_and_runs_nothing",
            "security/test_hostile_store.py::test_it_hides_no_other_session_of_its_owner",
            "security/test_flooding.py::test_of_members_whose_hash_can_be_computed_there_are_two_thousand_at_most",
        ],
        'with ``SESSION_SEAL = "required"`` they can read no value and forge no session that opens': [
            "security/test_stolen_store.py::test_a_session_written_into_the_store_is_none",
            "security/test_stolen_store.py::test_sealed_sessions_cannot_be_exchanged",
        ],
        "they can read and forge what lists show (owner, client, times)": [
            "security/test_stolen_store.py::test_no_byte_of_a_sealed_session_can_be_changed_but_of_its_two_times",
        ],
    },
    "Careless developer": {
        "Log-ins change the key by themselves": [
            "security/test_fixation.py::test_so_it_is_where_the_application_names_its_owners",
        ],
        "logs, ``repr``, signals, tracebacks and commands show no key or secret, and no value unless asked to with"
        " ``--values``": [
            "security/test_leaks.py::test_a_session_s_life_tells_nothing",
            "security/test_leaks.py::test_the_parts_tell_nothing_about_themselves",
            "security/test_leaks.py::test_no_store_and_no_client_shows_its_password",
            "security/test_leaks.py::test_the_commands_show_none_either",
            "security/test_leaks.py::test_flask_s_debugger_shows_source_and_no_secrets",
        ],
    },
}
ALL = sorted({name for promises in PROMISES.values() for names in promises.values() for name in names})


def rows() -> dict[str, str]:
    """The table of SECURITY.rst: what is promised, by adversary."""
    table = re.split(r"^=+  =+\n", SECURITY.read_text(), flags=re.MULTILINE)[2]
    found: dict[str, str] = {}
    for line in table.splitlines():
        adversary, promise = line[:40].strip(), line[40:].strip()
        name = adversary or list(found)[-1]
        found[name] = f"{found.get(name, '')} {promise}".strip()
    return found


def test_every_adversary_has_a_list() -> None:
    assert set(rows()) == set(PROMISES)


@pytest.mark.parametrize("adversary", PROMISES)
def test_every_word_of_a_promise_has_its_test(adversary: str) -> None:
    rest = rows()[adversary]
    for promise in PROMISES[adversary]:
        assert promise in rest
        rest = rest.replace(promise, "", 1)
    assert set(re.findall(r"[\w`-]+", rest)) <= {"and"}


@pytest.mark.parametrize("name", ALL)
def test_the_tests_are_there(name: str) -> None:
    file, function = name.split("::")
    tree = ast.parse((TESTS / file).read_text())
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_a_thief_who_renews_keeps_the_session_until_somebody_reaches_it(clock: Clock) -> None:
    """The visitor's log-out reaches it for a minute; ``revoke_all`` and the deadline do at any time."""
    store = MemoryStore()
    app = target(store, clock, SESSION_ABSOLUTE_LIFETIME=3600)

    def stolen_and_renewed() -> tuple[Browser, Browser]:
        visitor = started(app, _user_id="ann")
        thief = visitor.twin()
        thief.does(renew)
        return visitor, thief

    for wait, is_reached in ((0, True), (30, True), (61, False)):
        visitor, thief = stolen_and_renewed()
        clock.advance(wait)
        assert not identity(visitor)
        assert identity(thief)
        visitor.does(clear)
        assert (not identity(thief)) is is_reached

    _, thief = stolen_and_renewed()
    with app.app_context():
        app.extensions["sessionstore"].revoke_all("ann")
    assert not identity(thief)
    _, thief = stolen_and_renewed()
    clock.advance(3601)
    assert not identity(thief)
