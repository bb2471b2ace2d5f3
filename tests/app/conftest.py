"""Fixtures: the application on the in-memory store, and pytest-flask's client for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app import create_app
from eventvault.settings import Settings, load
from eventvault.store.memory.store import MemoryStore


@pytest.fixture
def settings(settings_environment: dict[str, str]) -> Settings:
    return load({**settings_environment, "MAX_BODY_BYTES": "100000"})


@pytest.fixture
def store(settings: Settings) -> MemoryStore:
    settings.backup_dir.mkdir(parents=True)
    return MemoryStore(settings.backup_dir)


@pytest.fixture
def app(settings: Settings, store: MemoryStore) -> Flask:
    return create_app(settings, store, shared_seconds=0.0)  # tests change the store behind it


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
