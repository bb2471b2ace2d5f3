"""Fixtures: the application on the in-memory store, and pytest-flask's client for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app import create_app
from eventvault.jobs.memory_jobs import MemoryJobs
from eventvault.settings import Settings, load
from eventvault.store.memory.store import MemoryStore
from tests.documented_answers import DocumentedAnswers
from tests.stores import folders_beneath


@pytest.fixture
def settings(settings_environment: dict[str, str]) -> Settings:
    return load({**settings_environment, "MAX_BODY_BYTES": "100000"})


@pytest.fixture
def store(settings: Settings) -> MemoryStore:
    settings.backup_dir.mkdir(parents=True)
    return MemoryStore(settings.backup_dir)


@pytest.fixture(scope="session")
def documented_answers(tmp_path_factory: pytest.TempPathFactory) -> DocumentedAnswers:
    """The document is the same for all applications, and costs a second."""
    settings = load(folders_beneath(tmp_path_factory.mktemp("document")))
    settings.backup_dir.mkdir()
    app = create_app(settings, MemoryStore(settings.backup_dir), jobs=MemoryJobs())
    return DocumentedAnswers(app.test_client().get("/openapi.json").json)


@pytest.fixture
def app(settings: Settings, store: MemoryStore, documented_answers: DocumentedAnswers) -> Iterator[Flask]:
    app = create_app(settings, store, shared_seconds=0.0)  # tests change the store behind it
    documented_answers.differences.clear()
    documented_answers.install(app)
    yield app
    assert documented_answers.differences == []


@pytest.fixture
def web(client: FlaskClient) -> FlaskClient:
    """pytest-flask's client."""
    return client


@pytest.fixture
def backup(web: FlaskClient) -> str:
    """The name of a backup with one event in it."""
    web.post("/api/events", json={"type": "a", "id": "kept"})
    name: str = web.post("/api/backup/create").json["name"]
    return name


@pytest.fixture
def archive(backup: str, settings: Settings) -> bytes:
    return Path(settings.backup_dir / backup).read_bytes()
