"""DynamoDBStore with a service that is away or refuses, and in processes that fork."""

from __future__ import annotations

import contextlib
import gc
import http.client
import http.server
import json
import logging
import subprocess
import sys
import threading
import time
import types
import typing as t
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import uuid4

import boto3
import botocore.exceptions
import pytest
from dynamodb_servers import REGION, TABLE, URL, DynaliteServer, DynamoDBServer
from dynamodb_stores import OPERATIONS, new
from every_store import alive
from forks import FORKS, Fork, fork_in_c, in_a_child
from http_support import KEPT, fate, make_app, started
from views import add_one

from flask_sessionstore import Record, SessionConflict, SessionGone, SessionKey, StoreUnavailable
from flask_sessionstore.stores import dynamodb as module
from flask_sessionstore.stores.dynamodb import DynamoDBStore
from flask_sessionstore.testing import later

DAY = timedelta(days=1)
SECRET = "of-nobody-s-business"


# -- failures --------------------------------------------------------------------------------------------------------


Answer = tuple[int, dict[str, t.Any]]
OK: Answer = (200, {})


class Stub:
    """Something at the other end that answers what it is told to, one after the other, and then the last for good."""

    def __init__(self) -> None:
        self.answers: list[Answer | bytes | None] = [OK]
        self.asked: list[str] = []
        #: The port that everything is passed on to, if it is; and of how many of its replies nobody is told.
        self.upstream, self.losses = 0, 0
        stub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                stub.asked.append(self.headers["X-Amz-Target"].rpartition(".")[2])
                answer = stub.passed_on(self.headers, body) if stub.upstream else stub.next_answer()
                if answer is None:  # it goes away in the middle
                    self.close_connection = True
                    return
                status, body = (
                    (200, answer) if isinstance(answer, bytes) else (answer[0], json.dumps(answer[1]).encode())
                )
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                if not isinstance(answer, bytes):
                    self.send_header("x-amzn-RequestId", "1")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def next_answer(self) -> Answer | bytes | None:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def passed_on(self, headers: t.Any, body: bytes) -> Answer | None:
        connection = http.client.HTTPConnection("127.0.0.1", self.upstream)
        with contextlib.closing(connection):
            connection.request("POST", "/", body, dict(headers))
            reply = connection.getresponse()
            answer = (reply.status, json.loads(reply.read()))
        if self.losses:
            self.losses -= 1
            return None
        return answer

    def store(self, **options: t.Any) -> DynamoDBStore:
        return DynamoDBStore.from_url(URL, endpoint_url=f"http://127.0.0.1:{self.server.server_port}", **options)


@pytest.fixture
def stub() -> Iterator[Stub]:
    stub = Stub()
    yield stub
    stub.server.shutdown()
    stub.server.server_close()


def refusal(code: str, status: int = 400, message: str = SECRET) -> Answer:
    return status, {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": message}


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy this machine is, all is tried as often as on another."""
    monkeypatch.setattr(module, "PATIENCE", 60)


def test_nothing_is_sent_again_after_a_second(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    store, now = stub.store(), iter([0.0, 1.01])
    store._clients.get()
    stub.answers = [refusal(THROTTLED[0])]
    monkeypatch.setattr(module, "time", types.SimpleNamespace(monotonic=lambda: next(now), sleep=pytest.fail))
    with pytest.raises(StoreUnavailable):
        store.load(SessionKey.generate())
    assert stub.asked == ["GetItem"]


THROTTLED = ["ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded"]


@pytest.mark.parametrize("code", THROTTLED)
@pytest.mark.usefixtures("patient")
def test_throttling_is_tried_again_soon_and_then_unavailable(stub: Stub, code: str) -> None:
    store = stub.store()
    stub.answers = [refusal(code), OK]
    assert store.load(SessionKey.generate()) is None
    assert stub.asked == ["GetItem"] * 2
    stub.answers = [refusal(code)]
    with pytest.raises(StoreUnavailable, match="throttles") as caught:
        store.load(SessionKey.generate())
    assert len(stub.asked) == 5
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "times"),
    [
        (refusal("InternalServerError", 500), 3),
        (refusal("ServiceUnavailable", 503), 3),
        ((502, {}), 3),
        (None, 3),
        (refusal("AccessDeniedException"), 1),
        (refusal("UnrecognizedClientException"), 1),
        (refusal("ExpiredTokenException"), 1),
    ],
)
@pytest.mark.usefixtures("patient")
def test_trouble_is_tried_again_and_a_refusal_is_not(stub: Stub, answer: Answer | None, times: int) -> None:
    stub.answers = [answer]
    with pytest.raises(StoreUnavailable) as caught:
        stub.store().load(SessionKey.generate())
    assert len(stub.asked) == times
    assert isinstance(caught.value.__cause__, (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("page", [b"<html>Please sign in to this network</html>", b"", b"{}"])
def test_a_page_of_a_proxy_s_does_not_say_that_there_is_no_session(stub: Stub, page: bytes) -> None:
    stub.answers = [page]
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        stub.store().load(SessionKey.generate())


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.usefixtures("patient")
def test_what_was_done_and_never_answered_is_sent_again_and_known_again(
    emulator: DynamoDBServer, stub: Stub, name: str
) -> None:
    stub.upstream = emulator.port
    store = stub.store(prefix=f"{uuid4()}:")
    key, record = new(store, "ann")
    stub.losses, before = 1, len(stub.asked)
    # Who updates knows its own revision in the conflict: see the request below.
    with pytest.raises(SessionConflict) if name == "update" else contextlib.nullcontext():
        OPERATIONS[name](store, key, record)
    assert stub.losses == 0
    assert stub.asked[before] == stub.asked[before + 1]
    assert len(store.entries("ann")) == 1 + (name in ("save", "renew")) - (name == "unfile")


@pytest.mark.usefixtures("patient")
def test_a_request_whose_reply_was_lost_counts_once(emulator: DynamoDBServer, stub: Stub) -> None:
    stub.upstream = emulator.port
    browser = started(make_app(stub.store(prefix=f"{uuid4()}:")), n=1)
    for losses in (1, 2):
        stub.losses = losses
        assert browser.does(add_one).status_code == 200
        assert stub.losses == 0
    assert browser.data == {"n": 3}


def each_on_its_own(server: DynamoDBServer) -> dict[str, tuple[DynamoDBStore, SessionKey, Record]]:
    """A client and a session for every operation, connected."""
    stores = {operation: server.store(prefix=f"{uuid4()}:") for operation in OPERATIONS}
    return {operation: (store, *new(store, "ann")) for operation, store in stores.items()}


def failures_of(
    under: dict[str, tuple[DynamoDBStore, SessionKey, Record]], seconds: float
) -> dict[str, StoreUnavailable]:
    """How every operation fails, in time. All at once, for each of them waits."""

    def fail(operation: str) -> StoreUnavailable:
        began = time.monotonic()
        with pytest.raises(StoreUnavailable) as caught:
            OPERATIONS[operation](*under[operation])
        assert time.monotonic() - began < seconds, operation
        return caught.value

    with ThreadPoolExecutor(len(under)) as threads:
        return dict(zip(under, threads.map(fail, under), strict=True))


@pytest.fixture
def start() -> Iterator[t.Callable[[], DynamoDBServer]]:
    """Start emulators for this test alone: dynalite, which keeps what it has."""
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(DynaliteServer())


@pytest.mark.long
def test_an_endpoint_that_went_away_is_unavailable_until_it_is_back(start: t.Callable[[], DynamoDBServer]) -> None:
    server = start()
    under = each_on_its_own(server)
    server.kill()
    for operation, error in failures_of(under, 2).items():
        assert isinstance(error.__cause__, botocore.exceptions.BotoCoreError), operation
        assert "127.0.0.1" not in str(error)
    server.start()
    for store, key, record in under.values():
        assert alive(store, key) == record


@pytest.mark.long
def test_an_endpoint_that_does_not_answer_is_given_up_after_two_seconds(
    start: t.Callable[[], DynamoDBServer],
) -> None:
    server = start()
    under = each_on_its_own(server)
    with server.hanging():
        assert {str(error) for error in failures_of(under, 4).values()} == {"DynamoDB did not answer in time"}
    for store, key, record in under.values():
        assert alive(store, store.save(record, DAY)).state == {"a": b"1"}
        with contextlib.suppress(SessionGone):
            found = store.load(key)  # what was under way may have arrived, but whole
            assert found is None or found.state in ({"a": b"1"}, {})


def test_a_restarted_endpoint_costs_no_request(start: t.Callable[[], DynamoDBServer]) -> None:
    server = start()
    store = server.store()
    key, record = new(store)
    server.kill()
    server.start()
    store.update(key, later(record, {"a": b"2"}), DAY, replaces=record.revision)
    assert alive(store, key).state == {"a": b"2"}


@pytest.mark.long
def test_nothing_secret_is_in_errors_or_logs(
    stub: Stub, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for botocore's own log at DEBUG, which has whole requests; its documentation says so."""
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    store, key = stub.store(), SessionKey.generate()
    said = repr(store)
    for answer in (refusal("AccessDeniedException", message="no"), refusal(THROTTLED[0], message="slow"), None):
        stub.answers = [answer]
        for operation in OPERATIONS.values():
            with pytest.raises(StoreUnavailable) as caught:
                operation(store, key, Record(state={"note": b"\xa9my secret"}, owner="ann", revisions=(bytes(8),)))
            said += f"{caught.value!r}{caught.value.__cause__!r}{caught.value.get_description()}"
    assert not any(secret in said + caplog.text for secret in (SECRET, "my secret", str(key), "bXkgc2VjcmV0"))


# -- processes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fork", FORKS)
def test_a_child_process_has_a_client_of_its_own(emulator: DynamoDBServer, fork: Fork) -> None:
    store = emulator.store(prefix=f"{uuid4()}:")
    key, record = new(store)
    client = store._clients.get()

    def work() -> None:
        store.update(key, later(record, {"a": b"2"}), DAY, replaces=record.revision)
        assert store._clients.get() is not client

    assert in_a_child(work, fork) == "done"
    with pytest.raises(SessionConflict):
        store.update(key, later(record, {"a": b"3"}), DAY, replaces=record.revision)
    assert alive(store, key).state == {"a": b"2"}
    assert store._clients.get() is client


def test_a_client_is_made_at_first_use() -> None:
    """Not before: by then gevent may have replaced what locks are."""
    store = DynamoDBStore.from_url(URL, endpoint_url="http://127.0.0.1:1")
    assert store._clients.peek() is None
    assert store._clients.get() is store._clients.get()


PATCHED = """
from gevent import monkey
if {early}:
    monkey.patch_all()
from flask_sessionstore.stores import from_url
store = from_url("{url}", endpoint_url="{endpoint_url}")
if not {early}:
    monkey.patch_all()
try:
    print(store.read("0" * 64))
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(("early", "said"), [(True, "None"), (False, "ConfigurationError DynamoDBStore: boto3 was im")])
def test_gevent_that_comes_after_boto3_is_an_error_that_says_so(
    emulator: DynamoDBServer, early: bool, said: str
) -> None:
    """Under gunicorn's worker of gevent's, with --preload."""
    script = PATCHED.format(early=early, url=URL, endpoint_url=emulator.endpoint_url)
    command = [sys.executable, "-W", "ignore", "-c", script]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.startswith(said)


def client_of(emulator: DynamoDBServer) -> t.Any:
    return boto3.session.Session().client("dynamodb", region_name=REGION, endpoint_url=emulator.endpoint_url)


@pytest.mark.parametrize("fork", FORKS)
def test_a_function_is_called_at_first_use_and_again_in_a_child(emulator: DynamoDBServer, fork: Fork) -> None:
    made: list[t.Any] = []

    def make() -> t.Any:
        made.append(client_of(emulator))
        return made[-1]

    store = DynamoDBStore(make, table=TABLE, prefix=f"{uuid4()}:")
    assert made == []
    key, _ = new(store)

    def work() -> None:
        alive(store, key)
        assert len(made) == 2

    assert in_a_child(work, fork) == "done"
    assert len(made) == 1


@pytest.mark.parametrize("fork", FORKS)
def test_a_given_client_is_used_in_its_own_process_only(emulator: DynamoDBServer, fork: Fork) -> None:
    store = DynamoDBStore(client_of(emulator), table=TABLE, prefix=f"{uuid4()}:")
    key, record = new(store)
    said = in_a_child(lambda: store.load(key), fork)
    assert said.startswith("ConfigurationError: DynamoDBStore: this client was made before")
    assert alive(store, key) == record


def test_a_store_that_goes_closes_its_client_in_its_own_process_only(
    emulator: DynamoDBServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = emulator.store(prefix=f"{uuid4()}:")
    new(store)
    client, stores, closed = store._clients.get(), [store], list[bool]()
    monkeypatch.setattr(client, "close", lambda: closed.append(True))
    del store

    def work() -> None:
        stores.clear()
        gc.collect()
        assert closed == []

    assert in_a_child(work, fork_in_c) == "done"
    assert closed == []
    stores.clear()
    gc.collect()
    assert closed == [True]


# -- with Flask ------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_requests_over_an_outage(start: t.Callable[[], DynamoDBServer]) -> None:
    """No cookie is lost, nothing half-written is seen, and no restart is needed."""
    server = start()
    app = make_app(server.store(), TESTING=False, PROPAGATE_EXCEPTIONS=False)
    app.logger.disabled = True
    browser = started(app, n=1)
    key = browser.key
    for disturb, mend in ((server.pause, server.resume), (server.kill, server.start)):
        disturb()
        response = browser.does(add_one)
        assert (response.status_code, response.headers["Retry-After"], fate(response)) == (503, "5", KEPT)
        mend()
        browser.does(add_one)
        assert browser.key == key
    assert browser.data["n"] in (3, 4)  # what was asked before the pause may have been done after it
