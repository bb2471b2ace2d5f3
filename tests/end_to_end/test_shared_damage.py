"""Archives that share blocks: the scrub reads these once, and damage there is damage of all that share it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from eventvault.backups.entry import BackupEntry
from eventvault.restore.values import Moment
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests.disk_blocks import disk_offset, flip_on_disk
from tests.filled import fill
from tests.restoring import append_random
from tests.stores import running_service

pytestmark = pytest.mark.root

QUIET = {"JOURNAL_INTERVAL": "3600000", "AUTO_BACKUP_ENABLED": "false"}


class Watched:
    """A service with archives that share blocks on XFS, and what its chores that read archives were asked for."""

    def __init__(self, service: StoreService, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.service = service
        self.image = image
        self.checks: list[dict[str, Any]] = []
        run = service.chores.run

        def noting(name: str, **arguments: Any) -> dict[str, Any]:
            if name == "check_archive":
                self.checks.append(arguments)
            return run(name, **arguments)

        monkeypatch.setattr(service.chores, "run", noting)

    def back_up(self) -> BackupEntry:
        append_random(self.service, 50)
        assert self.service.journal.flush()
        entry = self.service.create_backup().backup
        self.service.backups.late_check.wait()
        return entry

    def scrub(self) -> tuple[str, int]:
        """Let the scrub take its next turn. Returns the archive that it read, and the bytes that it did not read."""
        self.checks.clear()
        self.service.scrub.run()
        (check,) = self.checks
        return Path(check["archive"]).name, sum(size for _, size, _ in check["skipped"])

    def damage(self, entry: BackupEntry, offset: int) -> None:
        flip_on_disk(self.image, disk_offset(Path(entry.path), offset))

    def run_held_by(self, *names: str) -> tuple[int, int]:
        """Return offset (in the first archive) and size of a run that exactly these archives hold."""
        shared_runs = self.service.catalogue.shared_runs
        for offset, number in shared_runs.runs_of(names[0]).items():
            if shared_runs.holders_of([number]).keys() == set(names):
                return offset, shared_runs.read_since(names[0], 0)[offset].size
        raise AssertionError(f"no run is held by {names}")

    def damaged(self) -> list[str]:
        return sorted(entry.name for entry in self.service.list_backups() if entry.problem)


@pytest.fixture
def watched(
    folder_on: Callable[[str], Path], settings_with: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Watched]:
    folder = folder_on("xfs")
    settings = settings_with({**QUIET, "BACKUP_DIR": str(folder)})
    fill(settings.database, 8_000_000)
    with running_service(settings) as running:
        yield Watched(running, folder.parent.with_name("image"), monkeypatch)


def test_the_scrub_reads_shared_blocks_once_in_a_round(watched: Watched) -> None:
    made = [watched.back_up() for _ in range(3)]

    for _round in range(2):
        turns = dict(watched.scrub() for _ in made)
        assert turns.keys() == {entry.name for entry in made}
        assert sorted(skipped > entry.size // 2 for entry, skipped in zip(made, turns.values(), strict=True)) == [
            False,
            True,
            True,
        ]
    verified = [entry.verified for entry in watched.service.list_backups()]
    assert all(instant is not None and instant > max(entry.created for entry in made) for instant in verified)


def test_a_new_archive_is_as_old_as_what_it_shares(watched: Watched) -> None:
    first = watched.back_up()
    verified = watched.service.list_backups()[0].verified
    second = watched.back_up()
    assert (second.verified, second.created > first.created) == (verified, True)
    watched.service.verify_backup(first.name)
    newest, oldest = watched.service.list_backups()
    assert verified is not None
    assert newest.verified is not None
    assert oldest.verified is not None
    assert verified < newest.verified < oldest.verified


def test_a_damaged_block_is_found_once_and_marks_every_archive_that_holds_it(watched: Watched) -> None:
    service = watched.service
    made = [watched.back_up() for _ in range(3)]
    offset, size = watched.run_held_by(*(entry.name for entry in made))
    watched.damage(made[0], offset + size // 2)

    watched.scrub()

    assert watched.damaged() == sorted(entry.name for entry in made)
    assert service.status()["metrics"]["archives_damaged"] == 3
    assert "nothing to check" in _outcome_of_next_turn(watched)
    fresh = watched.back_up()
    assert fresh.shared_bytes == 0
    assert service.verify_backup(fresh.name, records=True).problem is None
    assert watched.damaged() == sorted(entry.name for entry in made)
    assert_window_is_true(watched, fresh)


def _outcome_of_next_turn(watched: Watched) -> str:
    watched.service.scrub.run()
    outcome: str = watched.service.status()["jobs"]["scrub"]["lastOutcome"]
    return outcome


def assert_window_is_true(watched: Watched, good: BackupEntry) -> None:
    """Both ends of the window that is shown can be restored, and so can the one good archive."""
    service = watched.service
    timeline = service.timeline()
    assert [archive["name"] for archive in timeline["archives"] if not archive["problem"]] == [good.name]
    assert {archive["name"] for archive in timeline["archives"] if archive["problem"]} == set(watched.damaged())
    assert timeline["gaps"] == []
    window, last = timeline["window"], service.status()["store"]["lastSequence"]
    assert window == service.status()["window"]
    assert window["newest"]["sequence"] == last
    generation = timeline["generation"]
    for sequence in (window["oldest"]["sequence"], last - 1, last):
        restored = service.restore_moment(Moment(sequence=sequence, generation=generation))
        assert restored.events == sequence
    assert service.restore(good.name).events == good.events


def test_damage_that_one_archive_has_alone_marks_that_one(watched: Watched) -> None:
    made = [watched.back_up() for _ in range(3)]
    offset, size = watched.run_held_by(*(entry.name for entry in reversed(made)))
    watched.damage(made[2], offset + size)  # the bytes after the shared blocks, which each archive has for itself
    first, second = watched.scrub(), watched.scrub()
    assert (first[0], second[0], watched.damaged()) == (made[0].name, made[1].name, [])

    name, skipped = watched.scrub()

    assert (name, watched.damaged()) == (made[2].name, [made[2].name])
    assert skipped > made[2].size // 2


def test_a_backup_that_reads_damaged_blocks_marks_every_archive_that_holds_them(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [watched.back_up() for _ in range(2)]
    offset, size = watched.run_held_by(*(entry.name for entry in made))
    watched.damage(made[0], offset + size // 2)
    for entry in made:  # as if they were not read for a long time
        watched.service.catalogue.shared_runs.record_failure(entry.name, watched.service.catalogue.identity(entry.name))

    fresh = watched.back_up()

    assert watched.damaged() == sorted(entry.name for entry in made)
    assert watched.service.verify_backup(fresh.name, records=True).problem is None
