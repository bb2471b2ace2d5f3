"""The OpenAPI document, and that the service answers every request as documented."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import schemathesis
from flask.testing import FlaskClient
from hypothesis import HealthCheck
from schemathesis.checks import load_all_checks
from schemathesis.pytest.lazy import get_all_tests
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import positive_data_acceptance

from app import create_app
from app.edge import Edge, Slots, attach
from app.streams import writer
from eventvault.access.changes import TokenChanges
from eventvault.settings import load
from eventvault.store.memory.store import MemoryStore
from tests.stores import folders_beneath


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BaseSchema]:
    folder = tmp_path_factory.mktemp("openapi")
    settings = load(folders_beneath(folder))
    settings.backup_dir.mkdir()
    store = MemoryStore(settings.backup_dir)
    TOKEN["Authorization"] = f"Bearer {TokenChanges(settings).create('tester', 'admin', by='shell').text}"
    app = create_app(settings, store)
    # schemathesis does not close what is streamed to it, so slots would run out.
    attach(app, Edge(settings, store, Slots(1_000_000, "requests")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "STREAM_SECONDS", 0.05)
        yield schemathesis.openapi.from_wsgi("/openapi.json", app)


def test_the_document_names_every_endpoint(web: FlaskClient) -> None:
    document = web.get("/openapi.json").json
    assert document["openapi"].startswith("3.1")
    assert {
        "/api/events", "/api/events/export", "/api/events/{event_id}", "/api/backup/create", "/api/backup/list",
        "/api/events/histogram", "/api/events/types", "/api/events/stream",
        "/api/backup/restore", "/api/backup/undo", "/api/backup/timeline", "/api/backup/diff",
        "/api/backup/export-metadata", "/api/backup/prune",
        "/api/backup/rehearse", "/api/backup/rehearsals", "/api/backup/{name}/rehearse",
        "/api/backup/upload", "/api/backup/{name}", "/api/backup/{name}/download", "/api/backup/{name}/pin",
        "/api/backup/{name}/verify", "/api/health", "/api/health/live", "/api/health/ready",
        "/api/kafka/partitions/{partition}/accept-loss", "/api/notify/test", "/api/problems/{code}/accept",
        "/api/operations", "/api/operations/{operation_id}", "/api/operations/{operation_id}/file", "/api/settings",
        "/api/operations/{operation_id}/stream", "/api/tokens", "/api/tokens/{token_id}",
    } == set(document["paths"])  # fmt: skip


def test_every_error_is_documented_in_the_error_form(web: FlaskClient) -> None:
    document: Any = web.get("/openapi.json").json
    operations = [each for path in document["paths"].values() for name, each in path.items() if name != "parameters"]
    assert all("default" in operation["responses"] for operation in operations)
    assert {"success", "code", "error", "hint"} <= set(document["components"]["schemas"]["Error"]["properties"])


def check(case: schemathesis.Case) -> None:
    plain = {"Accept-Encoding": "identity"}  # over WSGI, schemathesis does not inflate what it asks for
    case.call_and_validate(headers=plain | TOKEN, excluded_checks=[positive_data_acceptance])


TOKEN: dict[str, str] = {}
"""The header of an administrator: one of the requests makes a token, which closes the service."""


SETTINGS = hypothesis.settings(
    max_examples=12, deadline=None, database=None, suppress_health_check=list(HealthCheck), derandomize=True
)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Skipped test cases with unsupported payload media types")
def test_every_generated_request_is_answered_as_documented(schema: BaseSchema, subtests: pytest.Subtests) -> None:
    """The requests are generated here: at the collection, every test process would do it."""
    load_all_checks()
    operations = []
    for made in get_all_tests(schema=schema, test_func=check, settings=SETTINGS, given_kwargs=None):
        operation, run = made.ok()
        operations.append(operation.label)
        with subtests.test(operation.label):
            run()
    assert len(operations) > 20


def test_each_request_that_changes_something_takes_a_key(web: FlaskClient) -> None:
    document: Any = web.get("/openapi.json").json
    assert document["components"]["parameters"]["IdempotencyKey"]["name"] == "Idempotency-Key"
    key = {"$ref": "#/components/parameters/IdempotencyKey"}
    for path, operations in document["paths"].items():
        takes_keys = not path.startswith("/api/tokens")  # their answers have secrets
        for method in operations.keys() & {"get", "post", "put", "delete"}:
            assert (key in operations[method].get("parameters", [])) == (method != "get" and takes_keys)
