"""The OpenAPI document, and that the service answers every request as documented."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import schemathesis
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck
from schemathesis.specs.openapi.checks import positive_data_acceptance

from app import create_app
from app.edge import Edge, Slots, attach
from eventvault.settings import load
from eventvault.store.memory.store import MemoryStore


def fresh_app() -> Flask:
    folder = Path(tempfile.mkdtemp(dir=_FOLDER.name))
    folders = {f"{name}_DIR": str(folder / name.lower()) for name in ("STORAGE", "BACKUP", "RESTORE")}
    (folder / "backup").mkdir()
    settings, store = load(folders), MemoryStore(folder / "backup")
    app = create_app(settings, store)
    # schemathesis does not close what is streamed to it, so slots would run out.
    attach(app, Edge(settings, store, Slots(1_000_000, "requests")))
    return app


_FOLDER = tempfile.TemporaryDirectory()
schema = schemathesis.openapi.from_wsgi("/openapi.json", fresh_app())


def test_the_document_names_every_endpoint(web: FlaskClient) -> None:
    document = web.get("/openapi.json").json
    assert document["openapi"].startswith("3.1")
    assert {
        "/api/events", "/api/events/export", "/api/events/{event_id}", "/api/backup/create", "/api/backup/list",
        "/api/backup/restore", "/api/backup/undo", "/api/backup/timeline", "/api/backup/diff",
        "/api/backup/export-metadata",
        "/api/backup/upload", "/api/backup/{name}", "/api/backup/{name}/download", "/api/backup/{name}/pin",
        "/api/backup/{name}/verify", "/api/health", "/api/health/live", "/api/health/ready",
        "/api/kafka/partitions/{partition}/accept-loss", "/api/problems/{code}/accept",
    } == set(document["paths"])  # fmt: skip


def test_every_error_is_documented_in_the_error_form(web: FlaskClient) -> None:
    document: Any = web.get("/openapi.json").json
    operations = [each for path in document["paths"].values() for name, each in path.items() if name != "parameters"]
    assert all("default" in operation["responses"] for operation in operations)
    assert {"success", "code", "error", "hint"} <= set(document["components"]["schemas"]["Error"]["properties"])


@pytest.mark.filterwarnings("ignore:Skipped test cases with unsupported payload media types")
@schema.parametrize()
@hypothesis.settings(
    max_examples=12, deadline=None, database=None, suppress_health_check=list(HealthCheck), derandomize=True
)
def test_every_generated_request_is_answered_as_documented(case: schemathesis.Case) -> None:
    case.call_and_validate(excluded_checks=[positive_data_acceptance])


@pytest.fixture(scope="module", autouse=True)
def _clean() -> Any:
    yield
    _FOLDER.cleanup()
