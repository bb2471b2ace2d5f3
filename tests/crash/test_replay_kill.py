"""An archive of another installation is replayed event by event, and what is posted after that survives `kill -9`."""

from __future__ import annotations

import hashlib
import os
import signal
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from eventvault import clock
from eventvault.database.generation import first_identity
from eventvault.database.registry import AppendBatch, EventRegistry, create_database, open_leveldb
from eventvault.events import event
from tests import processes
from tests.eventvault.leveldb.log_writer import fragment
from tests.eventvault.restore.test_unproven import about, pack, varint
from tests.service import Service

BATCH = 5000
NEXT_FILE_NUMBER = 3


def attributes(number: int) -> dict[str, object]:
    texts = {"type": f"t{number % 7}", "source": f"/s/{number % 40}", "subject": f"c-{number % 999}"}
    return {**texts, "id": f"e-{number}", "data": {"n": number}}


def fill(database: Path, events: int) -> str:
    """Make a closed database; returns the SHA-256 of its events as lines."""
    create_database(database, first_identity(clock.now()))
    digest = hashlib.sha256()
    with closing(open_leveldb(database)) as db:
        registry = EventRegistry(db, database)
        for start in range(0, events, BATCH):
            made = [event.draft(attributes(number), clock.now()) for number in range(start, min(start + BATCH, events))]
            registry.append([AppendBatch(made, start.to_bytes(8, "big"))])
        for _, value in registry.events(0, events):
            digest.update(value + b"\n")
    return digest.hexdigest()


def exported(running: Service, events: int) -> tuple[str, int]:
    """The SHA-256 of the first `events` lines of an export, and how many follow."""
    digest, count = hashlib.sha256(), 0
    with urllib.request.urlopen(f"http://127.0.0.1:{running.port}/api/events/export", timeout=600) as lines:
        for line in lines:
            count += 1
            if count <= events:
                digest.update(line)
    return digest.hexdigest(), count - events


@pytest.mark.parametrize(
    ("events", "posts"),
    [
        pytest.param(20_000, 50, id="short"),
        pytest.param(2_000_000, 1000, id="long", marks=[pytest.mark.soak, pytest.mark.timeout(3600)]),
    ],
)
def test_posts_after_the_replay_of_a_hostile_archive_survive_kill_9(
    events: int, posts: int, service: Callable[..., Service], tmp_path: Path
) -> None:
    database = tmp_path / "elsewhere" / "db"
    expected = fill(database, events)
    manifest = about(database)
    with next(database.glob("MANIFEST-*")).open("ab") as file:
        file.write(fragment(1, bytes([NEXT_FILE_NUMBER]) + varint(2**64 - 3)))
    running = service(workers=1)
    pack(database, running.folder("BACKUP_DIR") / "arrived.tar.gz", manifest)

    restored = running.post("/api/backup/restore", {"backupName": "arrived.tar.gz"}, timeout=3000).json()
    assert (restored["events"], restored["proven"]) == (events, False), restored
    assert exported(running, events) == (expected, 0)
    for number in range(posts):
        assert running.post("/api/events", {"type": "after", "id": f"after-{number}"}).status == 201
    (store,) = running.stores()
    os.kill(store, signal.SIGKILL)
    processes.wait_until(lambda: store not in running.stores(), "the store was not killed")
    running.wait_until_ready()

    assert exported(running, events) == (expected, posts)
    assert running.get("/api/health").json()["lastRestore"]["proven"] is False
