"""The OpenAPI document, and that the service answers every request as documented."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import hypothesis
import pytest
import schemathesis
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck
from hypothesis import strategies as st
from schemathesis.checks import load_all_checks
from schemathesis.pytest.lazy import get_all_tests
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import positive_data_acceptance, unsupported_method

from app import create_app
from app.edge import Edge, Slots, attach
from app.streams import writer
from eventvault.access.changes import TokenChanges
from eventvault.access.throttle import Throttle
from eventvault.jobs.job import JobType
from eventvault.jobs.memory_jobs import MemoryJobs
from eventvault.settings import load
from eventvault.store.memory.store import MemoryStore
from tests.schedule import series_seed, share
from tests.stores import folders_beneath

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BaseSchema]:
    folder = tmp_path_factory.mktemp("openapi")
    settings = load(folders_beneath(folder))
    settings.backup_dir.mkdir()
    store = MemoryStore(settings.backup_dir)
    TOKEN["Authorization"] = f"Bearer {TokenChanges(settings).create('tester', 'admin', by='shell').text}"
    jobs = MemoryJobs()
    jobs.offer(JobType(name="echo"))
    app = create_app(settings, store, jobs=jobs)
    # schemathesis does not close what is streamed to it, so slots would run out.
    attach(app, Edge(settings, store, Slots(1_000_000, "requests"), jobs=jobs))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "STREAM_SECONDS", 0.05)
        patch.setattr(Throttle, "note_wrong", lambda throttle, address: 0)  # more wrong tokens than an address has
        yield schemathesis.openapi.from_wsgi("/openapi.json", app)


@pytest.mark.slow
def test_the_document_names_every_endpoint(web: FlaskClient) -> None:
    document = web.get("/openapi.json").json
    assert document["openapi"].startswith("3.1")
    assert {
        "/api/events", "/api/events/export", "/api/events/{event_id}", "/api/backup/create", "/api/backup/list",
        "/api/events/histogram", "/api/events/types", "/api/events/stream", "/api/changes/stream",
        "/api/backup/restore", "/api/backup/undo", "/api/backup/timeline", "/api/backup/diff",
        "/api/backup/export-metadata", "/api/backup/prune",
        "/api/backup/rehearse", "/api/backup/rehearsals", "/api/backup/{name}/rehearse",
        "/api/backup/upload", "/api/backup/{name}", "/api/backup/{name}/download", "/api/backup/{name}/pin",
        "/api/backup/{name}/verify", "/api/health", "/api/health/live", "/api/health/ready",
        "/api/kafka/partitions/{partition}/accept-loss", "/api/kafka/quarantine",
        "/api/kafka/partitions/{topic}/{partition}/accept-loss", "/api/notify/test", "/api/problems/{code}/accept",
        "/api/operations", "/api/operations/{operation_id}", "/api/operations/{operation_id}/file", "/api/settings",
        "/api/session",
        "/api/audit",
        "/api/jobs", "/api/jobs/types", "/api/jobs/{job_id}", "/api/jobs/cancel", "/api/jobs/retry", "/api/jobs/pause",
        "/api/jobs/resume", "/api/jobs/schedules", "/api/jobs/schedules/{name}",
        "/api/operations/{operation_id}/stream", "/api/tokens", "/api/tokens/{token_id}",
    } == set(document["paths"])  # fmt: skip


@pytest.mark.slow
def test_all_who_ask_at_once_get_the_whole_document(app: Flask) -> None:
    """It is made when it is asked for first."""
    with ThreadPoolExecutor(8) as pool:
        documents = list(pool.map(lambda _: app.test_client().get("/openapi.json").data, range(8)))
    assert len(set(documents)) == 1
    assert b"IdempotencyKey" in documents[0]


def test_every_error_is_documented_in_the_error_form(web: FlaskClient) -> None:
    document: Any = web.get("/openapi.json").json
    operations = [each for path in document["paths"].values() for name, each in path.items() if name != "parameters"]
    assert all("default" in operation["responses"] for operation in operations)
    assert {"success", "code", "error", "hint"} <= set(document["components"]["schemas"]["Error"]["properties"])


def check(case: schemathesis.Case) -> None:
    """Send a request of an administrator, and apply every check that schemathesis has."""
    send_and_check(case, TOKEN)


def check_without_token(case: schemathesis.Case) -> None:
    send_and_check(case, {})


def also_without_token(chance: random.Random) -> Callable[[schemathesis.Case], None]:
    """Return what checks a request, and an operation's first one and by chance others without a token too.

    They are sent one after the other: to make the requests takes longer than to send them.
    """
    sent_without = set[str]()

    def check_both(case: schemathesis.Case) -> None:
        check(case)
        if case.operation.label not in sent_without or chance.random() < WITHOUT_TOKEN:
            check_without_token(case)
            sent_without.add(case.operation.label)

    return check_both


WITHOUT_TOKEN = 1 / 8
"""How many of the requests the short form also sends without a token. The long form sends all."""


def send_and_check(case: schemathesis.Case, token: dict[str, str]) -> None:
    plain = {"Accept-Encoding": "identity"}  # over WSGI, schemathesis does not inflate what it asks for
    headers = plain | token
    SENT.add((case.operation.label, case.media_type))
    answer = case.call(headers=headers)
    excluded = [positive_data_acceptance] if may_be_refused(case, answer) else []
    if not token:
        excluded.append(unsupported_method)  # 401: without a token nothing is said of what a path can do
    case.validate_response(answer, headers=headers, excluded_checks=excluded)


SENT: set[tuple[str, str | None]] = set()
"""The operations that were asked, and the media types of the bodies that were sent to them."""
TOKEN: dict[str, str] = {}
"""The header of an administrator: one of the requests makes a token, which closes the service."""


def may_be_refused(case: schemathesis.Case, answer: schemathesis.Response) -> bool:
    """Return whether the service may refuse a request for what no schema can say of it."""
    query = case.query or {}
    return (
        case.operation.label == "POST /api/backup/upload"  # of what is no archive
        or case.media_type in BODIES  # the document calls it a text or bytes, and says no more
        or any(reason in answer.content for reason in OF_WHAT_IS_THERE)
        # OpenAPI has no rule for two parameters of a query.
        or ("generation" in query and ("asOf" not in query or "id" in query))
        or {"from", "to"} <= query.keys()
    )


OF_WHAT_IS_THERE = (
    b'"code":"job_type_unknown"',
    b"the schedule is not valid",
    b'"code":"idempotency_key_reused"',
    b'"code":"moment_unavailable"',
    b"takes no Idempotency-Key",  # a header that the body forbids
    b"No backup has this name.",
    b"Allowed: a span such as 12h, 90d or 8w, or a future instant.",
    b"Not the id of an operation.",
    b"Not an instant, a sequence or an archive's name.",  # the 30th of February
    b"Not the `next` of a page.",
    b"Not topic/partition@offset.",  # the numbers have bounds
    b"does not say which messages to drop",
    b"KAFKA_PUBLISH_TOPIC is not set.",
    b"Not a cursor, and not a sequence number.",  # a cursor is opaque: its pattern says no more than its letters
)
"""What is in the answers that depend on more than the request's own form."""


SOME_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
).map(lambda value: json.dumps(value).encode())
A_WORD = st.text("abcäß", min_size=1, max_size=4)
AN_ITEM = st.fixed_dictionaries({"type": st.just("echo")}, optional={"id": A_WORD, "payload": A_WORD}).map(
    lambda value: json.dumps(value).encode()
)
"""An event and a job at once."""
LINES = st.lists(AN_ITEM, max_size=4) | st.lists(AN_ITEM | SOME_JSON | st.binary(max_size=20), max_size=4)
BODIES = {
    "application/x-ndjson": st.tuples(LINES, st.sampled_from([b"\n", b"\r\n", b"\n\n"])).map(
        lambda drawn: drawn[1].join(drawn[0])
    ),
    "application/gzip": st.one_of(st.binary(max_size=100), st.binary(max_size=100).map(gzip.compress)),
}
"""Media type → bodies, where schemathesis makes none by itself."""


def send_all(
    schema: BaseSchema,
    subtests: pytest.Subtests,
    settings: hypothesis.settings,
    seed: int = 0,
    test: Callable[[schemathesis.Case], None] = check,
) -> None:
    """Send generated requests to each endpoint.

    They are generated here: at the collection, every test process would do it.
    """
    load_all_checks()
    for media_type, bodies in BODIES.items():
        schemathesis.openapi.media_type(media_type, bodies)
    operations = []
    for made in get_all_tests(schema=schema, test_func=test, settings=settings, given_kwargs=None):
        operation, run = made.ok()
        operations.append(operation.label)
        with subtests.test(operation.label):
            (run if settings.derandomize else hypothesis.seed(seed)(run))()
    assert len(operations) > 20


QUICK = hypothesis.settings(
    max_examples=6, deadline=None, database=None, suppress_health_check=list(HealthCheck), derandomize=True
)


@pytest.mark.slow
def test_every_generated_request_is_answered_as_documented(schema: BaseSchema, subtests: pytest.Subtests) -> None:
    """A share of them without a token too."""
    send_all(schema, subtests, QUICK, test=also_without_token(random.Random(series_seed())))
    documented = {
        (f"{method.upper()} {path}", media_type)
        for path, operations in schema.raw_schema["paths"].items()
        for method, operation in operations.items()
        if method != "parameters"
        for media_type in operation.get("requestBody", {}).get("content", [])
    }
    assert documented - SENT == set(), "schemathesis leaves out media types that it cannot make: see BODIES"


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("test", [check, check_without_token])
def test_any_number_of_generated_requests_is_answered_as_documented(
    schema: BaseSchema, subtests: pytest.Subtests, test: Callable[[schemathesis.Case], None]
) -> None:
    settings = hypothesis.settings(QUICK, derandomize=False, max_examples=share(400))
    send_all(schema, subtests, settings, series_seed(), test)


def test_each_request_that_changes_something_takes_a_key(web: FlaskClient) -> None:
    document: Any = web.get("/openapi.json").json
    assert document["components"]["parameters"]["IdempotencyKey"]["name"] == "Idempotency-Key"
    key = {"$ref": "#/components/parameters/IdempotencyKey"}
    for path, operations in document["paths"].items():
        takes_keys = not path.startswith(("/api/tokens", "/api/session"))  # their answers have secrets
        for method in operations.keys() & {"get", "post", "put", "delete"}:
            assert (key in operations[method].get("parameters", [])) == (method != "get" and takes_keys)
