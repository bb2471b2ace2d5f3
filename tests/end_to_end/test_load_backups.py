"""Backups that are made while events are posted: each is a gap-free prefix that any tar and LevelDB can read."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import plyvel
import pytest

from eventvault.database import keys
from tests.crash.load import loading
from tests.service import Service


@pytest.mark.parametrize("count", [pytest.param(8, id="8"), pytest.param(50, id="50", marks=pytest.mark.soak)])
def test_each_backup_holds_what_was_acknowledged_before_it_was_asked_for(
    service: Callable[..., Service], tmp_path: Path, count: int
) -> None:
    running = service(environment={"MAX_BACKUPS": "3"})
    names = set()
    with loading(running.port) as load:
        for number in range(count):
            load.advance()
            before = dict(load.acknowledged)
            made = running.post("/api/backup/create", {"label": f"under load {number}"}).json()
            names.add(made["name"])
            held = unpacked(Path(made["backupPath"]), tmp_path / f"unpacked-{number}")
            assert list(held) == list(range(1, made["events"] + 1))
            assert before.items() <= {event["id"]: sequence for sequence, event in held.items()}.items()
    assert len(names) == count
    assert not load.troubles
    assert len(running.get("/api/backup/list").json()["backups"]) == 3


def unpacked(archive: Path, folder: Path) -> dict[int, dict[str, object]]:
    """Sequence → event, by plain tar and plyvel alone."""
    folder.mkdir()
    subprocess.run(["tar", "-xzf", archive, "-C", folder], check=True)
    with (
        plyvel.DB(str(folder / "event_registry_db"), paranoid_checks=True) as db,
        db.iterator(prefix=keys.EVENT) as rows,
    ):
        return {keys.sequence_of(key): json.loads(value) for key, value in rows}
