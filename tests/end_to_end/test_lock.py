"""The LOCK of LevelDB: one that is left over is harmless, one that is held is named and never removed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests import processes
from tests.restoring import make_database
from tests.service import Service

HOLDER = "import plyvel, sys; db = plyvel.DB(sys.argv[1]); print('open', flush=True); sys.stdin.read()"


def test_a_lock_that_is_left_over_is_harmless(
    service: Callable[..., Service], settings_environment: dict[str, str]
) -> None:
    database = Path(settings_environment["STORAGE_DIR"]) / "event_registry_db"
    make_database(database)
    (database / "LOCK").write_bytes(b"12345\n")

    running = service(workers=1)

    assert running.post("/api/events", {"type": "t"}).json()["lastSequence"] == 4
    assert running.get("/api/health").json()["status"] == "ok"


def test_a_lock_that_is_held_names_the_holder_and_the_service_goes_on_once_it_is_free(
    service: Callable[..., Service], settings_environment: dict[str, str]
) -> None:
    database = Path(settings_environment["STORAGE_DIR"]) / "event_registry_db"
    make_database(database)
    command = [sys.executable, "-c", HOLDER, str(database)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        inode = (database / "LOCK").stat().st_ino
        running = service(workers=1, wait=False)

        def health() -> Any:
            with suppress(OSError):
                return running.get("/api/health").json()
            return {"problems": []}

        def is_named() -> bool:
            return [problem["code"] for problem in health()["problems"]] == ["database_locked"]

        processes.wait_until(is_named, "health does not name the lock", 60)
        assert health()["status"] == "degraded"
        (problem,) = health()["problems"]
        assert str(holder.pid) in problem["message"]
        reply = running.post("/api/events", {"type": "t"})
        assert (reply.status, reply.json()["code"]) == (503, "database_locked")
        assert str(holder.pid) in reply.json()["error"]
        assert (database / "LOCK").stat().st_ino == inode
        holder.communicate(b"")
    running.wait_until_ready()

    assert running.post("/api/events", {"type": "t"}).json()["lastSequence"] == 4
    assert running.get("/api/health").json()["status"] == "ok"
