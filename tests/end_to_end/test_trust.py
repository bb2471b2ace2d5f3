"""`flask backup trust` as a process of its own, beside a running service."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from eventvault.backups.installation_key import ensure_key
from eventvault.settings import load
from tests import processes
from tests.command_line import Command
from tests.restoring import drafts
from tests.service import Service
from tests.stores import folders_beneath, running_service


def test_a_running_service_goes_by_a_trusted_key_within_a_moment(
    service: Callable[..., Service], flask: Command, settings_environment: dict[str, str], tmp_path: Path
) -> None:
    elsewhere = load(folders_beneath(tmp_path / "elsewhere"))
    with running_service(elsewhere) as other:
        other.append(drafts(3))
        archive = Path(other.create_backup("theirs").backup.path)
    running = service(workers=1)
    shutil.copy(archive, settings_environment["BACKUP_DIR"])
    key = str(elsewhere.backup_dir / ".installation.key")

    def proven() -> list[bool]:
        return [backup["proven"] for backup in running.get("/api/backup/list").json()["backups"]]

    def wait_for(expected: list[bool]) -> None:
        """A command's change shows once the shared answer of half a second is over."""
        processes.wait_until(lambda: proven() == expected, f"the archive's `proven` is not {expected}")

    assert proven() == [False]
    assert flask("backup", "trust", key).returncode == 0
    wait_for([True])
    renewed = flask("backup", "trust", "--renew", "--yes", "--json")
    assert json.loads(renewed.stdout) == {"success": True, "renewed": True, "archives": 0}
    assert proven() == [True]
    listed = flask("backup", "trust", "--list")
    assert ensure_key(elsewhere).hex() not in listed.stdout
    assert flask("backup", "trust", "--remove", listed.stdout.splitlines()[1][:6]).returncode == 0
    wait_for([False])
