"""The guide's examples, sent as PowerShell sends them, against gunicorn with three workers."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.service import Service

ISO_MILLISECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
NAME = re.compile(r"backup_\d{4}-\d\d-\d\d_\d{6}(_[a-z0-9-]+)?(_\d+)?\.tar\.gz")
POWERSHELL = "Mozilla/5.0 (Windows NT; Windows NT 10.0; en-US) WindowsPowerShell/5.1.19041.4894"


@pytest.fixture
def running(service: Callable[..., Service]) -> Service:
    """For examples that begin with an empty registry, or that stop the service."""
    return service(workers=1)


@pytest.fixture(scope="module")
def shared(module_service: Callable[..., Service]) -> Service:
    """For all other examples."""
    return module_service(workers=3)


def invoke_web_request(
    running: Service, path: str, *, method: str = "GET", content_type: str | None = None, body: str | None = None
) -> Any:
    """What `Invoke-WebRequest` puts on the wire; without -ContentType a body goes out as a form."""
    command = ["curl", "--silent", "--show-error", "--fail-with-body", "-X", method, "-A", POWERSHELL]
    command += ["-H", f"Host: localhost:{running.port}", "-H", "Accept:"]
    if body is not None:
        command += ["-H", f"Content-Type: {content_type or 'application/x-www-form-urlencoded'}", "--data-raw", body]
    answer = subprocess.run([*command, running.base + path], capture_output=True, timeout=120, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return json.loads(answer.stdout)


def post_events(running: Service, count: int) -> None:
    assert running.post("/api/events", [{"type": "t"}] * count).status == 201


def events(running: Service) -> int:
    count: int = running.get("/api/health").json()["store"]["events"]
    return count


def create(running: Service, label: str = "manual-backup") -> Any:
    return invoke_web_request(
        running,
        "/api/backup/create",
        method="POST",
        content_type="application/json",
        body=json.dumps({"label": label}, separators=(",", ":")),
    )


def test_create_backup(shared: Service) -> None:
    answer = create(shared)

    path = Path(answer["backupPath"])
    assert answer["success"] is True
    assert path.parent == shared.folder("BACKUP_DIR")
    assert NAME.fullmatch(path.name)
    assert "_manual-backup" in path.name  # with a number after it if another test made one in the same second
    assert answer["size"] == path.stat().st_size


def test_create_backup_without_a_content_type(shared: Service) -> None:
    answer = invoke_web_request(shared, "/api/backup/create", method="POST", body='{"label":"migration-export"}')

    assert answer["success"] is True
    assert answer["label"] == "migration-export"


def test_list_backups(shared: Service) -> None:
    made = create(shared)
    answer = invoke_web_request(shared, "/api/backup/list")

    (backup,) = [listed for listed in answer["backups"] if listed["name"] == made["name"]]
    assert answer["success"] is True
    assert backup["name"] == Path(backup["path"]).name
    assert backup["size"] == Path(backup["path"]).stat().st_size
    assert backup["sizeMB"] == f"{backup['size'] / 2**20:.2f}"
    assert ISO_MILLISECONDS.fullmatch(backup["created"])


def test_restore_from_backup(shared: Service) -> None:
    post_events(shared, 10)
    there = events(shared)
    name = create(shared)["name"]
    post_events(shared, 5)
    answer = invoke_web_request(
        shared,
        "/api/backup/restore",
        method="POST",
        content_type="application/json",
        body=json.dumps({"backupName": name}),
    )

    assert answer["success"] is True
    assert answer["message"]
    assert (answer["restartRequired"], answer["restartCommand"]) == (False, None)
    assert events(shared) == there


def test_restore_at_the_next_restart(running: Service, service: Callable[..., Service]) -> None:
    post_events(running, 10)
    name = create(running)["name"]
    post_events(running, 5)
    answer = running.post("/api/backup/restore", {"backupName": name, "apply": "restart"}).json()

    assert answer["message"] == "Restore complete. Restart application to apply changes."
    assert answer["restartCommand"] == "docker-compose restart app worker"
    assert events(running) == 15
    running.stop()
    assert events(service(workers=1)) == 10


def test_export_metadata(running: Service) -> None:
    assert invoke_web_request(running, "/api/backup/export-metadata")["metadata"] == {
        "backupCount": 0,
        "totalSize": 0,
        "oldestBackup": None,
        "newestBackup": None,
        "backups": [],
    }
    sizes = [create(running, f"number-{number}")["size"] for number in range(3)]

    metadata = invoke_web_request(running, "/api/backup/export-metadata")["metadata"]

    assert metadata["backupCount"] == 3
    assert metadata["totalSize"] == sum(sizes)
    assert metadata["oldestBackup"] == metadata["backups"][-1]["created"]
    assert metadata["newestBackup"] == metadata["backups"][0]["created"]


def test_health_check(running: Service) -> None:
    promised = {"available": True, "count": 0, "latest": None, "totalSizeMB": "0.00"}
    backup = invoke_web_request(running, "/api/health")["backup"]
    assert {name: backup[name] for name in promised} == promised
    made = create(running)

    health = invoke_web_request(running, "/api/health")

    assert health["status"] == "ok"
    assert health["backup"]["count"] == 1
    assert health["backup"]["latest"]["name"] == made["name"]
    assert health["backup"]["totalSizeMB"] == f"{made['size'] / 2**20:.2f}"


def test_auto_restore_on_startup(
    running: Service, service: Callable[..., Service], settings_environment: dict[str, str]
) -> None:
    post_events(running, 10)
    made = create(running)
    post_events(running, 5)
    running.stop()
    restore = Path(settings_environment["RESTORE_DIR"])
    shutil.copy(made["backupPath"], restore / "backup_to_restore.tar.gz")

    health = service(workers=1).get("/api/health").json()

    assert health["store"]["events"] == 10
    assert health["lastRestore"]["source"] == "backup_to_restore.tar.gz"
    assert [path.name for path in (restore / "restored").iterdir()] == ["backup_to_restore.tar.gz"]
    assert not list(restore.glob("*.tar.gz"))


def test_migration_to_another_machine(running: Service, service: Callable[..., Service], tmp_path: Path) -> None:
    post_events(running, 100)
    made = invoke_web_request(running, "/api/backup/create", method="POST", body='{"label":"migration-export"}')
    other = {name: str(tmp_path / "other" / name.lower()) for name in ("STORAGE_DIR", "BACKUP_DIR", "RESTORE_DIR")}
    Path(other["RESTORE_DIR"]).mkdir(parents=True)
    shutil.copy(made["backupPath"], other["RESTORE_DIR"])

    migrated = service(workers=1, environment=other)

    def exported(one: Service) -> bytes:
        return one.get("/api/events/export").body

    assert exported(migrated) == exported(running)
    assert exported(migrated).count(b"\n") == 100


def test_removing_the_lock_by_hand_does_no_harm(shared: Service) -> None:
    post_events(shared, 10)
    there = events(shared)
    (shared.folder("STORAGE_DIR") / "event_registry_db" / "LOCK").unlink()
    post_events(shared, 10)
    store = shared.stores()[0]
    subprocess.run(["kill", "-9", str(store)], check=True)
    post_events(shared, 10)

    assert events(shared) == there + 20


def test_the_logs_name_the_backup_manager(shared: Service) -> None:
    made = create(shared)

    assert any("BackupManager" in line and made["name"] in line for line in shared.log().splitlines())
