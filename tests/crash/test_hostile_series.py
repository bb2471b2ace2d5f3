"""Hostile archives through one running service: after each of them it does all that it did before, in little memory.

`make test` tries a few, which the seed chooses; `make soak` tries all. In this process all kinds are tried by
`tests/eventvault/restore/test_hostile_archives.py`.
"""

from __future__ import annotations

import json
import random
import secrets
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import processes
from tests.hostile_archives import Kind, all_kinds
from tests.restoring import leftovers
from tests.schedule import series_seed, share
from tests.service import Service

NAME = "hostile.tar.gz"
MOST_MEMORY = 400 * 2**20
LONG = [pytest.mark.soak, pytest.mark.timeout(3 * 3600)]


def last_sequence(running: Service) -> int:
    answer = running.get("/api/events?limit=1")
    assert answer.status == 200, answer.body
    return int(answer.json()["lastSequence"])


def check_all_goes_on(running: Service) -> None:
    """Post, list, filter by type, export, wait for the journal, back up."""
    mark = secrets.token_hex(6)
    posted = running.post("/api/events", [{"type": mark, "id": f"{mark}-{number}"} for number in range(3)])
    assert posted.status == 201, posted.body
    last = posted.json()["lastSequence"]
    assert len(running.get(f"/api/events?after={last - 3}").json()["events"]) == 3
    assert len(running.get(f"/api/events?type={mark}").json()["events"]) == 3
    exported = running.get("/api/events/export")
    assert (exported.status, exported.body.count(b"\n")) == (200, last)

    def journal_has_all() -> bool:
        journal = running.get("/api/health").json()["journal"]
        return bool(journal["lastSequence"] is not None and journal["lastSequence"] >= last)

    processes.wait_until(journal_has_all, f"the journal has no event {last}", 60)
    made = running.post("/api/backup/create")
    assert (made.status, made.json()["sequence"]) == (200, last), made.body


def try_kind(kind: Kind, running: Service, folder: Path) -> int:
    """Restore an archive of the kind, then do everything. Returns the status of the restore."""
    archive = running.folder("BACKUP_DIR") / NAME
    kind.make(folder / NAME)
    (folder / NAME).replace(archive)
    before = last_sequence(running)
    restored = running.post("/api/backup/restore", {"backupName": NAME}, timeout=600)
    assert restored.status in (200, 422), restored.body
    check_all_goes_on(running)
    if restored.status == 200:
        undone = running.post("/api/backup/undo")
        assert (undone.status, last_sequence(running)) == (200, before), undone.body
        check_all_goes_on(running)
    archive.unlink()
    assert not leftovers(running.folder("STORAGE_DIR"), running.folder("BACKUP_DIR"))
    return restored.status


@pytest.mark.parametrize(
    ("kinds", "posts"),
    [pytest.param(2, 100, id="short"), pytest.param(share(len(all_kinds())), 1000, id="long", marks=LONG)],
)
def test_after_hostile_archives_everything_goes_on_and_nothing_is_lost(
    kinds: int, posts: int, service: Callable[..., Service], tmp_path: Path
) -> None:
    everything = [kind for kind in all_kinds() if posts == 1000 or not kind.slow]
    chosen = random.Random(series_seed()).sample(everything, min(kinds, len(everything)))
    running = service(environment={"MAX_BACKUPS": "3", "KEEP_UNDO": "1", "AUTO_BACKUP_ENABLED": "false"})
    (running.post("/api/events", {"type": "first"}), running.post("/api/backup/create"))
    with processes.memory_watched(running.processes, interval=0.05) as memory:
        statuses = {kind.name: try_kind(kind, running, tmp_path) for kind in chosen}
    print(json.dumps(statuses, indent=1), json.dumps(memory, indent=1))
    assert memory
    assert not {command: most for command, most in memory.items() if most > MOST_MEMORY}

    ids = [f"acknowledged-{number}" for number in range(posts)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda event: running.post("/api/events", event), [{"type": "a", "id": i} for i in ids])
        )
    assert {answer.status for answer in answers} == {201}
    processes.kill(running.processes(), signal.SIGKILL)
    running.process.wait(90)
    stored = {json.loads(line)["id"] for line in service().get("/api/events/export").body.splitlines()}
    assert stored >= set(ids)
