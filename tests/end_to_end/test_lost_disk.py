"""storage/ is gone under load, and the processes are killed: the archives and the journal bring it back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import processes
from tests.crash.load import Load
from tests.service import Service

RECOVER = {"AUTO_RECOVER": "true", "JOURNAL_INTERVAL": "200", "AUTO_BACKUP_ENABLED": "false"}


def exported(running: Service) -> dict[str, int]:
    """id → sequence of every event."""
    lines = running.get("/api/events/export").body.splitlines()
    events = [json.loads(line) for line in lines]
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    return {event["id"]: event["sequence"] for event in events}


@pytest.mark.parametrize("archive", [True, False], ids=["with an archive", "with the journal alone"])
def test_what_was_journaled_comes_back(
    service: Callable[..., Service], settings_environment: dict[str, str], archive: bool
) -> None:
    running = service(workers=1, environment=RECOVER)
    load = Load(running.port)
    load.start()
    try:
        load.advance(10)
        if archive:
            running.post("/api/backup/create")
        load.advance(10)
        processes.wait_until(
            lambda: running.get("/api/health").json()["journal"]["lastSequence"] >= 40, "nothing is journaled"
        )
        before = running.get("/api/health").json()["journal"]
        acknowledged = dict(load.acknowledged)
        assert before["secondsAtRisk"] < 60
        processes.kill(running.processes())
    finally:
        load.stop()
    journaled = before["lastSequence"]
    must = {name: sequence for name, sequence in acknowledged.items() if sequence <= journaled}
    assert len(must) > 20
    running.process.wait(90)
    processes.wait_until(lambda: not running.processes(), "a process is left")
    shutil.rmtree(settings_environment["STORAGE_DIR"])

    again = service(workers=1, environment=RECOVER)

    there = exported(again)
    assert {name: there.get(name) for name in must} == must
    health = again.get("/api/health").json()
    assert health["status"] == "ok"
    assert health["lastRestore"]["reason"] == "recovered"
    assert f"{len(there)} events were recovered" in again.log()
    assert again.post("/api/events", {"type": "t"}).json()["lastSequence"] == len(there) + 1
    assert Path(settings_environment["STORAGE_DIR"]).is_dir()
