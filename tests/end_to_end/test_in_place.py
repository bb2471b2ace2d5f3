"""A Node.js system's storage/ under the real service: taken over as it is found."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import orjson

from tests import processes
from tests.restoring import bytes_of
from tests.service import PROJECT, Service

NODE = PROJECT / "tests" / "fixtures" / "node"


def test_its_database_is_served_by_every_worker_and_its_bytes_are_kept(
    service: Callable[..., Service], settings_environment: dict[str, str]
) -> None:
    storage = Path(settings_environment["STORAGE_DIR"])
    storage.mkdir(parents=True)
    with tarfile.open(NODE / "in_its_folder.tar.gz") as archive:
        archive.extractall(storage, filter="data")
    before = bytes_of(storage / "event_registry_db")
    expected = orjson.loads((NODE / "expected.json").read_bytes())

    running = service(workers=3)
    health = running.get("/api/health").json()
    exported = [orjson.loads(line) for line in running.get("/api/events/export").body.splitlines()]

    assert (health["status"], health["problems"]) == ("ok", [])
    assert health["lastRestore"]["events"] == len(exported) == len(expected)
    assert {event["originalkey"] for event in exported} >= {row["key"] for row in expected if "key" in row}
    (kept,) = storage.glob("previous-*")
    assert bytes_of(kept) == before
    (backup,) = running.get("/api/backup/list").json()["backups"]
    assert backup["name"].endswith("_found-in-place.tar.gz")
    assert (backup["events"], backup["generation"]) == (None, None)
    assert running.post("/api/events", {"type": "t"}).json()["lastSequence"] == len(expected) + 1

    stores = running.stores()
    processes.kill(stores)
    running.wait_for_other_store(stores)
    assert running.get("/api/health").json()["store"]["events"] == len(expected) + 1
    assert len(running.get("/api/backup/list").json()["backups"]) == 1
