"""Every kind of file system below BACKUP_DIR, below STORAGE_DIR and below both: what a user does works on each."""

from __future__ import annotations

import secrets
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from eventvault.errors import DatabaseError
from eventvault.files import free_bytes
from eventvault.restore.values import Moment
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests.filled import fill
from tests.mounts import KINDS
from tests.restoring import drafts, leftovers, live, written_archives
from tests.service import Service
from tests.stores import running_service

pytestmark = pytest.mark.root

QUIET = {"JOURNAL_INTERVAL": "3600000", "AUTO_BACKUP_ENABLED": "false", "AUTO_RECOVER": "true"}
"""Segments are written when a test says so."""
BOTH = ("BACKUP_DIR", "STORAGE_DIR")
MANY, FEW = 300, 3


def post(service: StoreService, count: int, prefix: str) -> None:
    """Append events that do not compress well, and write a segment of the journal with them."""
    service.append([draft for n in range(count) for draft in drafts(1, f"{prefix}-{n}", data=secrets.token_hex(600))])
    assert service.journal.flush()


def assert_well(service: StoreService, wanted: list[bytes]) -> None:
    """These events and no others, health is ok, and the journal has them all."""
    assert live(service) == wanted
    assert service.journal.flush()
    status = service.status()
    assert (status["status"], status["problems"]) == ("ok", [])
    assert (status["journal"]["state"], status["journal"]["lastSequence"]) == ("ok", len(wanted))


ROLES = [("BACKUP_DIR",), ("STORAGE_DIR",), BOTH]
PLACES = [(kind, roles) for kind in KINDS for roles in ROLES if kind != "limited"] + [("limited", ("BACKUP_DIR",))]
"""LevelDB needs a file system that syncs folders."""
SHORT = {"limited", "xfs"}
"""Of these kinds, `make test` tries every role; of the others both roles at once."""


@pytest.mark.parametrize(
    ("kind", "roles"),
    [
        pytest.param(kind, roles, id=f"{kind}-{'+'.join(roles)}", marks=[] if short else pytest.mark.soak)
        for kind, roles in PLACES
        for short in [kind in SHORT or roles == BOTH]
    ],
)
def test_backups_restores_and_recovery_work_on_it(
    kind: str,
    roles: tuple[str, ...],
    folder_on: Callable[[str], Path],
    settings_with: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = folder_on(kind)
    settings = settings_with({**QUIET, **{role: str(folder / role) for role in roles}})
    with running_service(settings) as service:
        post(service, MANY, "many")
    with running_service(settings) as service:  # opening the database again turned its log into a table
        archives = written_archives(service, monkeypatch)
        first = service.create_backup("first").backup
        post(service, FEW, "few")
        second = service.create_backup("second").backup
        present = live(service)
        assert len(present) == MANY + FEW
        assert [entry.name for entry in service.list_backups()] == [second.name, first.name]
        assert [archive["copied"] > archive["size"] // 2 for archive in archives] == [False, True]
        assert service.verify_backup(first.name, records=True).content_checked
        assert service.verify_backup(second.name, records=True).content_checked

        assert service.restore(first.name).events == MANY
        assert_well(service, present[:MANY])
        service.undo()
        assert_well(service, present)
        service.restore_moment(Moment(sequence=MANY + 1))
        assert_well(service, present[: MANY + 1])
        service.undo()
        post(service, FEW, "journaled-only")
        present = live(service)
        assert not leftovers(settings.storage_dir, settings.backup_dir)

    shutil.rmtree(settings.storage_dir)
    with running_service(settings) as service:
        assert_well(service, present)
        post(service, FEW, "after")
        assert service.create_backup("third").backup.events == MANY + 3 * FEW


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=[] if kind in ("xfs", "linkless") else pytest.mark.soak)
        for kind in KINDS
        if kind != "limited"
    ],
)
def test_the_real_service_works_on_it(
    kind: str,
    folder_on: Callable[[str], Path],
    settings_environment: dict[str, str],
    service: Callable[..., Service],
) -> None:
    folder = folder_on(kind)
    settings_environment.update({role: str(folder / role) for role in BOTH})
    running = service(workers=1, environment={"AUTO_BACKUP_ENABLED": "false"})
    posted = [{"id": f"{number}", "type": "t"} for number in range(100)]

    assert running.post("/api/events", posted[:99]).status == 201
    first = running.post("/api/backup/create").json()["name"]
    assert running.post("/api/events", posted[99]).status == 201
    assert running.post("/api/backup/create").status == 200
    assert running.post("/api/backup/restore", {"backupName": first}).status == 200
    assert ids(running) == [event["id"] for event in posted[:99]]
    assert running.post("/api/backup/undo").status == 200
    assert ids(running) == [event["id"] for event in posted]
    assert running.get("/api/health").json()["status"] == "ok"


@pytest.mark.parametrize("kind", ["xfs", "btrfs"])
def test_a_second_backup_shares_the_blocks_of_the_first(
    kind: str,
    folder_on: Callable[[str], Path],
    settings_with: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = folder_on(kind)
    settings = settings_with({**QUIET, "BACKUP_DIR": str(folder)})
    fill(settings.database, 8_000_000)
    with running_service(settings) as service:
        archives = written_archives(service, monkeypatch)
        first = service.create_backup("first").backup
        post(service, FEW, "few")
        free = free_when_synced(folder)
        second = service.create_backup("second").backup
        assert archives[1]["copied"] > 0.9 * first.size
        assert second.size - (free - free_when_synced(folder)) > 0.8 * archives[1]["copied"]

        Path(first.path).unlink()
        assert service.verify_backup(second.name, records=True).events == second.events


def free_when_synced(folder: Path) -> int:
    subprocess.run(["sync", "--file-system", folder], check=True)
    return free_bytes(folder)


def test_a_storage_folder_that_cannot_be_synced_is_refused_and_the_reason_is_said(
    folder_on: Callable[[str], Path], settings_with: Callable[..., Settings]
) -> None:
    storage = folder_on("limited") / "storage"
    with running_service(settings_with({**QUIET, "STORAGE_DIR": str(storage)})) as service:
        (problem,) = service.status()["problems"]

        assert problem["code"] == "database_error"
        assert "cannot sync folders" in problem["message"]
        assert "STORAGE_DIR" in problem["hint"]
        with pytest.raises(DatabaseError, match="cannot sync folders"):
            service.append(drafts(1))


def ids(running: Service) -> list[str]:
    return [event["id"] for event in running.get("/api/events?limit=1000").json()["events"]]
