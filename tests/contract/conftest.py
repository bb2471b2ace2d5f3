"""The stores that the contract tests ask: in memory, in the process that owns LevelDB, and behind the socket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from eventvault.settings import Settings, load
from eventvault.store.memory.store import MemoryStore
from eventvault.store.ports.store import Store
from tests.stores import running_client, running_service

KINDS = ["memory", "owner", pytest.param("process", marks=pytest.mark.process)]


@contextmanager
def _running(kind: str, settings: Settings) -> Iterator[Store]:
    if kind == "memory":
        settings.backup_dir.mkdir(parents=True)
        yield MemoryStore(settings.backup_dir)
    elif kind == "owner":
        with running_service(settings) as service:
            yield service
    else:
        with running_client(settings) as client:
            yield client


@pytest.fixture(params=KINDS)
def empty_store(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Store]:
    """A store of the test's own."""
    with _running(request.param, settings) as store:
        yield store


@pytest.fixture(scope="module", params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store that the tests of a module share: there are events and backups of other tests in it."""
    folder: Path = tmp_path_factory.mktemp("shared")
    names = {"STORAGE_DIR": "storage", "BACKUP_DIR": "backups", "RESTORE_DIR": "restore"}
    with _running(request.param, load({name: str(folder / value) for name, value in names.items()})) as store:
        yield store
