"""storage/ of a copy of the installation, which was used elsewhere, takes the place of the own one."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from tests import processes
from tests.service import Service


def post(running: Service, prefix: str, count: int) -> None:
    for number in range(count):
        assert running.post("/api/events", {"type": "t", "id": f"{prefix}-{number}"}).status == 201


def export(running: Service) -> bytes:
    return running.get("/api/events/export").body


def kill(running: Service) -> None:
    """Kill a service once all events are in the journal."""

    def is_journaled() -> bool:
        health = running.get("/api/health").json()
        return bool(health["journal"]["lastSequence"] == health["store"]["lastSequence"])

    processes.wait_until(is_journaled, "the journal does not have the events")
    processes.kill(running.processes())
    processes.wait_until(lambda: not running.processes(), "the service lives")


def test_the_restore_that_health_names_brings_the_own_events_back(
    service: Callable[..., Service], settings_environment: dict[str, str], tmp_path: Path
) -> None:
    first = service(workers=1)
    post(first, "shared", 2)
    kill(first)
    copy = {name: str(tmp_path / "copy" / name) for name in ("STORAGE_DIR", "BACKUP_DIR")}
    for name, folder in copy.items():
        shutil.copytree(settings_environment[name], folder, ignore=shutil.ignore_patterns("*.sock"))

    own = service(workers=1)
    post(own, "own", 3)
    expected = export(own)
    kill(own)
    elsewhere = service(workers=1, environment=copy)
    post(elsewhere, "elsewhere", 4)
    theirs = export(elsewhere)
    kill(elsewhere)
    storage = Path(settings_environment["STORAGE_DIR"])
    storage.rename(storage.with_name("own"))
    shutil.copytree(copy["STORAGE_DIR"], storage, ignore=shutil.ignore_patterns("*.sock"))

    running = service(workers=1)
    assert export(running) == theirs
    health = running.get("/api/health").json()
    assert (health["status"], [problem["code"] for problem in health["problems"]]) == ("degraded", ["rolled_back"])
    found = re.search(r"POST (/api/backup/restore) (\{.*?\})", health["problems"][0]["hint"])
    assert found is not None, health
    assert running.post(found[1], json.loads(found[2])).status == 200
    assert export(running) == expected
    assert running.get("/api/health").json()["status"] == "ok"
