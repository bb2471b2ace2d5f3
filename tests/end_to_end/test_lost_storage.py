"""storage/ is gone, backups/ is there: what the real service does about it."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests import processes
from tests.service import Service


@pytest.fixture(scope="module")
def archive(module_service: Callable[..., Service]) -> Path:
    """A backup of two events, and the journal beside it."""
    running = module_service(workers=1)
    running.post("/api/events", [{"id": "a", "type": "t"}, {"id": "b", "type": "t"}])
    path = Path(running.post("/api/backup/create").json()["backupPath"])
    running.stop()
    return path


@pytest.fixture
def lost(archive: Path, settings_environment: dict[str, str]) -> str:
    """The name of a backup of two events, whose storage/ is gone."""
    shutil.copytree(archive.parent, settings_environment["BACKUP_DIR"])
    return archive.name


def test_it_refuses_and_says_what_to_do(service: Callable[..., Service], lost: str) -> None:
    running = service(workers=1, wait=False)

    def named() -> bool:
        """A store that is starting is a problem too."""
        with suppress(OSError):
            return [each["code"] for each in running.get("/api/health").json()["problems"]] == ["database_missing"]
        return False

    processes.wait_until(named, "health does not name the loss")
    health = running.get("/api/health").json()
    assert health["status"] == "degraded"
    (problem,) = health["problems"]
    assert "AUTO_RECOVER" in problem["hint"]
    for method, body in (("GET", None), ("POST", {"type": "t"})):
        reply = running.request(method, "/api/events", body)
        assert (reply.status, reply.json()["code"]) == (503, "database_missing")
        assert "AUTO_RECOVER" in reply.json()["hint"]
    assert [backup["name"] for backup in running.get("/api/backup/list").json()["backups"]] == [lost]

    assert running.post("/api/backup/restore", {"backupName": lost}).status == 200
    assert running.get("/api/health").json()["store"]["events"] == 2
    assert running.post("/api/events", {"type": "t"}).status == 201


def test_it_recovers_where_it_may(service: Callable[..., Service], lost: str) -> None:
    running = service(workers=1, environment={"AUTO_RECOVER": "true"})
    health = running.get("/api/health").json()

    assert health["store"]["events"] == 2
    assert health["lastRestore"]["source"] == lost


def test_it_starts_anew_where_it_shall(service: Callable[..., Service], lost: str) -> None:
    running = service(workers=1, environment={"AUTO_RECOVER": "empty"})

    assert running.get("/api/health").json()["store"]["events"] == 0
    assert running.post("/api/events", {"type": "t"}).json()["lastSequence"] == 1


def remove_while_it_is_written_to(folder: Path) -> None:
    """As `rm -rf`, again if a file appears meanwhile."""

    def is_removed() -> bool:
        try:
            shutil.rmtree(folder)
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
            return False
        return True

    processes.wait_until(is_removed, f"{folder} is not removed")


def test_a_store_whose_folder_is_removed_makes_way_and_no_second_one_stands_beside_it(
    service: Callable[..., Service], settings_environment: dict[str, str]
) -> None:
    running = service(workers=1, environment={"AUTO_RECOVER": "empty"})
    running.post("/api/events", {"id": "a", "type": "t"})
    before = running.stores()

    remove_while_it_is_written_to(Path(settings_environment["STORAGE_DIR"]))

    processes.wait_until(
        lambda: len(running.stores()) == 1 and running.stores() != before, "the old store is still there", 60
    )
    running.wait_until_ready()
    assert running.post("/api/events", {"id": "b", "type": "t"}).json()["lastSequence"] == 1
