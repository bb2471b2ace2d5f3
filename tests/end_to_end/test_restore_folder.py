"""`restore/` belongs to a start of the service, and to nothing else; while it is restored HTTP says so."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests import processes
from tests.held_chores import HeldChores
from tests.restoring import make_archive, make_text_archive
from tests.service import Service


def health(running: Service) -> dict[str, object]:
    found: dict[str, object] = running.get("/api/health").json()
    return found


def events(running: Service) -> int:
    return int(running.get("/api/health").json()["store"]["events"])


def test_only_a_start_of_the_service_takes_what_lies_there(
    service: Callable[..., Service], settings_environment: dict[str, str]
) -> None:
    running = service(workers=2)
    running.post("/api/events", [{"type": "t"}, {"type": "t"}])
    archive = make_archive(Path(settings_environment["RESTORE_DIR"]) / "a.tar.gz")

    before = running.stores()
    processes.kill(before)
    running.wait_for_other_store(before)
    assert events(running) == 2, "a store that takes over"

    worker = running.workers()[0]
    processes.kill([worker])
    processes.wait_until(
        lambda: len(running.workers()) == 2 and worker not in running.workers(), "no worker is born again"
    )
    running.wait_until_ready()
    assert events(running) == 2, "a worker that is started again"

    workers = set(running.workers())
    os.kill(running.process.pid, signal.SIGHUP)
    processes.wait_until(
        lambda: len(running.workers()) == 2 and not workers & set(running.workers()), "no workers after SIGHUP"
    )
    running.wait_until_ready()
    assert events(running) == 2, "SIGHUP"
    assert archive.exists()

    running.stop()
    running = service(workers=2)
    assert events(running) == 3
    assert not archive.exists()


@pytest.fixture
def restoring(
    service: Callable[..., Service], settings_environment: dict[str, str], tmp_path: Path
) -> tuple[Service, HeldChores]:
    """A service that is held while it restores the 200 events of an archive in `restore/`."""
    restore = Path(settings_environment["RESTORE_DIR"])
    restore.mkdir(parents=True)
    make_archive(restore / "a.tar.gz", events=200)
    chores = HeldChores(tmp_path)
    chores.hold("prepare_restore")
    running = service(workers=1, environment=chores.environment, command=chores.command, wait=False)
    chores.wait_for_one(running)
    return running, chores


def test_while_it_restores_http_says_so(restoring: tuple[Service, HeldChores]) -> None:
    running, chores = restoring

    def answers() -> bool:
        with suppress(OSError):
            return running.get("/api/health/live", timeout=5).status == 200
        return False

    processes.wait_until(answers, "gunicorn does not listen", 60)
    assert health(running)["status"] == "restoring"
    for method, path in (("GET", "/api/events"), ("GET", "/api/health/ready"), ("POST", "/api/backup/create")):
        reply = running.request(method, path)
        assert (reply.status, reply.json()["success"]) == (503, False), path
        assert int(reply.headers["retry-after"]) > 0
    reply = running.post("/api/events", {"type": "t"})
    assert (reply.status, reply.json()["code"]) == (503, "restoring")
    assert int(reply.headers["retry-after"]) > 0

    chores.go_on(running)
    running.wait_until_ready()
    assert events(running) == 200
    assert health(running)["status"] == "ok"


def test_a_store_that_is_killed_while_it_restores_is_followed_by_one_that_restores(
    restoring: tuple[Service, HeldChores], settings_environment: dict[str, str]
) -> None:
    running, chores = restoring
    stores = running.stores()
    chores.hold_no_more()  # the next store restores at once
    processes.kill(stores)
    chores.go_on(running)
    running.wait_until_ready()

    assert events(running) == 200
    assert running.stores() != stores
    restored = Path(settings_environment["RESTORE_DIR"]) / "restored"
    assert [path.name for path in restored.iterdir()] == ["a.tar.gz"]
    assert not list(Path(settings_environment["STORAGE_DIR"]).glob(".restoring-*"))


def test_a_bad_file_makes_health_degraded_and_names_it(
    service: Callable[..., Service], settings_environment: dict[str, str]
) -> None:
    restore = Path(settings_environment["RESTORE_DIR"])
    restore.mkdir(parents=True)
    make_text_archive(restore / "notes.tar.gz")
    running = service(workers=1)

    assert running.post("/api/events", {"type": "t"}).status == 201
    before = running.stores()
    processes.kill(before)
    running.wait_for_other_store(before)
    found = running.get("/api/health")
    (problem,) = found.json()["problems"]

    assert (found.status, found.json()["status"]) == (200, "degraded")
    assert "notes.tar.gz" in problem["message"]
    assert {"code", "message", "hint"} <= set(problem)
    assert any("BackupManager" in line and "notes.tar.gz" in line for line in running.log().splitlines())
