"""The audit of the real service: it is never rewound, whatever becomes of STORAGE_DIR, and `flask audit` shows it."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests import processes
from tests.command_line import Command
from tests.eventvault.audit.audits import Audit
from tests.service import Service

SECRET = "a-password-of-somebody"
PAYLOAD = "a-payload-that-was-marked"
SETTINGS = {
    "JOURNAL_INTERVAL": "100",
    "AUTO_BACKUP_ENABLED": "false",
    "AUTO_RECOVER": "true",
    "NOTIFY_URLS": f"json://user:{SECRET}@127.0.0.1:9/",
}


def lines(running: Service) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = running.get("/api/audit?limit=1000").json()["lines"]
    return found


def deeds(running: Service, action: str) -> list[tuple[str, str | None]]:
    """Who did it, and with what result, of each end."""
    return [(line["who"], line["result"]) for line in lines(running) if line["action"] == action and line["result"]]


def verified(flask: Command) -> int:
    """The number of lines of a chain that is whole."""
    done = flask("audit", "verify", "--json")
    assert done.returncode == 0, done.stdout
    count: int = json.loads(done.stdout)["lines"]
    return count


def test_no_restore_undo_loss_or_old_copy_of_storage_rewinds_it(
    service: Callable[..., Service], flask: Command, tmp_path: Path
) -> None:
    running = service(workers=1, environment=SETTINGS)
    running.post("/api/events", [{"type": "t", "id": str(number), "data": PAYLOAD} for number in range(3)])
    backup = running.post("/api/backup/create").json()["name"]
    running.post("/api/events", {"type": "t", "id": "behind"})
    assert running.post("/api/backup/restore", {"backupName": backup}).status == 200
    assert running.post("/api/backup/undo").status == 200
    assert deeds(running, "restore") == [("open", "done")]
    assert deeds(running, "undo") == [("open", "done")]
    before = verified(flask)

    store = running.stores()[0]
    os.kill(store, signal.SIGKILL)
    processes.wait_until(lambda: running.stores() not in ([], [store]), "there is no new store", 60)
    assert running.request("DELETE", f"/api/backup/{backup}?force=true").status == 200
    assert running.post("/api/backup/create").status == 200  # else nothing may hold the first events after the loss
    assert verified(flask) >= before + 4

    processes.wait_until(
        lambda: running.get("/api/health").json()["journal"]["lastSequence"] == 4, "the events are not journaled"
    )
    running.stop()
    stopped = verified(flask)
    storage = running.folder("STORAGE_DIR")
    shutil.copytree(storage, tmp_path / "old")
    shutil.rmtree(storage)
    running = service(workers=1, environment=SETTINGS)
    assert running.get("/api/health").json()["store"]["events"] == 4
    processes.wait_until(lambda: len(deeds(running, "start")) == 2, "the start has no end")
    assert deeds(running, "recover") == [("start", "done")]
    assert deeds(running, "stop") == [("start", "done")]
    assert verified(flask) > stopped
    assert any("noteLost" in line["details"] for line in lines(running))
    running.stop()

    shutil.rmtree(storage)
    shutil.copytree(tmp_path / "old", storage)
    running = service(workers=1, environment=SETTINGS)
    processes.wait_until(lambda: len(deeds(running, "start")) == 3, "the start has no end")
    assert verified(flask) > stopped + 4
    assert [line["line"] for line in lines(running)] == list(range(1, len(lines(running)) + 1))

    (first,) = [line for line in lines(running) if line["action"] == "start"][:1]
    assert first["details"]["settings"]["JOURNAL_INTERVAL"] == 100
    assert first["details"]["settings"]["NOTIFY_URLS"] == "set"
    written = b"".join(Audit(tmp_path).raw())
    assert SECRET.encode() not in written
    assert PAYLOAD.encode() not in written


def test_a_download_goes_on_without_a_store_and_ends_as_what_it_came_to(service: Callable[..., Service]) -> None:
    running = service(workers=1, environment=SETTINGS)
    running.post("/api/events", {"type": "t"})
    backup = running.post("/api/backup/create").json()["name"]
    assert running.get(f"/api/backup/{backup}/download").status == 200
    processes.wait_until(lambda: deeds(running, "download") == [("open", "done")], "the download has no end")


def test_deeds_go_on_while_nothing_can_be_written_to_the_folder_of_the_audit(
    service: Callable[..., Service], flask: Command
) -> None:
    running = service(workers=1, environment={"AUTO_BACKUP_ENABLED": "false"})
    folder = running.folder("BACKUP_DIR") / "audit"
    processes.wait_until(lambda: len(deeds(running, "start")) == 1, "the start has no end")
    folder.rename(folder.with_name("away"))
    folder.write_bytes(b"in its place")
    running.post("/api/events", {"type": "t"})
    assert running.post("/api/backup/create").status == 200

    def codes() -> list[str]:
        return [problem["code"] for problem in running.get("/api/health").json()["problems"]]

    assert codes() == ["audit_waits"]
    folder.unlink()
    folder.with_name("away").rename(folder)
    processes.wait_until(lambda: codes() == [], "the lines still wait")
    assert deeds(running, "create") == [("open", "done")]
    assert verified(flask) == 4
