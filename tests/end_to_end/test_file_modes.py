"""Nobody but the owner may read what a service writes, whatever the umask it is started with."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

import pytest

from tests.command_line import Command
from tests.service import Service
from tests.stores import folders_of


def modes(folders: dict[str, str]) -> dict[str, int]:
    paths = [path for folder in folders_of(folders) for path in (folder, *folder.rglob("*"))]
    return {str(path): path.lstat().st_mode for path in paths}


@pytest.mark.parametrize("group_read", [False, True])
def test_what_a_service_writes_is_for_its_owner_or_group(
    service: Callable[..., Service], settings_environment: dict[str, str], group_read: bool
) -> None:
    os.umask(0)
    running = service(workers=1, environment={"FILE_GROUP_READ": str(group_read).lower(), "JOURNAL_INTERVAL": "50"})
    assert running.post("/api/events", {"type": "t"}).status == 201
    name = running.post("/api/backup/create").json()["name"]
    archive = running.get(f"/api/backup/{name}/download").body
    assert running.post("/api/backup/upload?name=copy.tar.gz", archive).status == 201
    assert running.post("/api/backup/restore", {"backupName": name}).status == 200
    assert running.post("/api/events", {"type": "t"}).status == 201
    running.stop()

    written = modes(settings_environment)
    assert len(written) > 20
    allowed = 0o050 if group_read else 0
    assert {path for path, mode in written.items() if mode & 0o077 & ~allowed} == set()
    archives = [path for path in written if path.endswith(".tar.gz")]
    assert {stat.S_IMODE(written[path]) for path in archives} == {0o640 if group_read else 0o600}
    storage = settings_environment["STORAGE_DIR"]
    assert stat.S_IMODE(written[storage]) == (0o750 if group_read else 0o700)
    for secret in (".installation.key", "store.sock", "owner.lock"):
        assert written.get(f"{storage}/{secret}", 0o600) & 0o077 == 0


def test_what_a_command_writes_is_for_its_owner(flask: Command, settings_environment: dict[str, str]) -> None:
    os.umask(0)
    assert flask("problems", "list").returncode == 0
    written = modes(settings_environment)
    assert written
    assert {path for path, mode in written.items() if mode & 0o077} == set()
