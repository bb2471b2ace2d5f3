"""A recovery reads manifests, and loses nothing that archives or journal hold without a word from the operator (P4)."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventvault.backups import catalogue_file
from eventvault.database.generation import Generation
from eventvault.restore.moments.plan import Sources, Target
from eventvault.restore.start.completeness import find_beyond
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests import processes
from tests.restoring import drafts, flip, prefixes, put
from tests.stores import running_service

pytestmark = pytest.mark.slow

CODE = "recovery_incomplete"
QUIET = {"AUTO_BACKUP_ENABLED": "false", "JOURNAL_INTERVAL": "3600000"}
ALL = {"first": 20, "second": 30, "third": 40, "fourth": 10}
ARCHIVED = {name: count for name, count in ALL.items() if name != "fourth"}


@pytest.fixture
def recovering(settings_with: Callable[..., Settings]) -> Settings:
    return settings_with({**QUIET, "AUTO_RECOVER": "true"})


@pytest.fixture
def archives(recovering: Settings) -> list[str]:
    """Two archives, of 50 and 90 events, oldest first; the journal has all 100 in four segments. storage/ is lost."""
    names = []
    with running_service(recovering) as service:
        for prefix, count in ALL.items():
            put(service, count, prefix)
            if prefix in ("second", "third"):
                names.append(service.create_backup().backup.name)
    shutil.rmtree(recovering.storage_dir)
    return names


def segments(settings: Settings) -> list[Path]:
    found = sorted(settings.backup_dir.glob("journal/*/segment_*"))
    assert len(found) == len(ALL)
    return found


def problems(service: StoreService) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = service.status()["problems"]
    return found


def refusal(service: StoreService) -> str:
    """The message of a start that was refused because it would lose something."""
    assert service.state == "failed"
    missing = [problem["message"] for problem in problems(service) if problem["code"] == "database_missing"]
    waiting = [problem["message"] for problem in problems(service) if problem["code"] == CODE]
    assert len(missing) == len(waiting) == 1
    assert waiting[0] in missing[0]
    return str(waiting[0])


def wait_until_serving(service: StoreService) -> None:
    processes.wait_until(lambda: service.state == "serving", "it does not recover by itself")


def falsify(settings: Settings, name: str, **changes: Any) -> None:
    """Write a catalogue with a right checksum that says something else of one archive."""
    records = catalogue_file.load(settings.backup_dir)
    record = records[name]
    assert record.summary is not None
    summary = msgspec.structs.replace(
        record.summary, **{key: value for key, value in changes.items() if key != "origin"}
    )
    origin = changes.get("origin", record.origin)
    records[name] = msgspec.structs.replace(record, summary=summary, origin=origin)
    catalogue_file.save(settings.backup_dir, records)


@pytest.mark.parametrize(
    "changes",
    [
        {"generation": "0123456789abcdef"},
        {"sequence": 20, "events": 20},
        {"origin": "found"},
        {"installation": "0123456789abcdef"},
        {"generation": "0123456789abcdef", "sequence": 0, "events": 0},
    ],
)
@pytest.mark.parametrize("journaled", [True, False])
def test_what_the_catalogue_says_of_a_manifest_does_not_count(
    recovering: Settings, archives: list[str], changes: dict[str, Any], journaled: bool
) -> None:
    for name in archives:
        falsify(recovering, name, **changes)
    if not journaled:
        shutil.rmtree(recovering.backup_dir / "journal")
    with running_service(recovering) as service:
        assert prefixes(service) == (ALL if journaled else ARCHIVED)
        assert problems(service) == []


def test_a_pin_survives_a_recovery(recovering: Settings, settings_with: Callable[..., Settings]) -> None:
    with running_service(recovering) as service:
        put(service, 5, "first")
        name = service.create_backup().backup.name
        service.pin_backup(name, pinned=True)
    shutil.rmtree(recovering.storage_dir)
    with running_service(recovering) as service:
        (entry,) = service.list_backups()
        assert (entry.pinned, entry.origin, entry.verified is None) == (True, "created", False)


def test_the_events_of_a_damaged_archive_are_not_given_up_silently(recovering: Settings, archives: list[str]) -> None:
    shutil.rmtree(recovering.backup_dir / "journal")
    flip(recovering.backup_dir / archives[1], 900)
    with running_service(recovering) as service:
        message = refusal(service)
        assert "only the events up to 50" in message
        assert archives[1] in message
        service.accept_problem(CODE)
        wait_until_serving(service)
        assert prefixes(service) == {"first": 20, "second": 30}
        assert problems(service) == []
    with running_service(recovering) as service:
        assert problems(service) == []


def test_events_beyond_a_hole_in_the_journal_are_named_until_the_segment_is_back(
    recovering: Settings, archives: list[str], tmp_path: Path
) -> None:
    for name in archives:
        (recovering.backup_dir / name).unlink()
    segment = segments(recovering)[1]
    shutil.move(segment, tmp_path / segment.name)
    with running_service(recovering) as service:
        assert "events beyond 20 are in the journal" in refusal(service)
        assert not recovering.database.exists()
        shutil.move(tmp_path / segment.name, segment)
        wait_until_serving(service)
        assert prefixes(service) == ALL
        assert problems(service) == []


def test_a_damaged_segment_at_the_end_is_named(recovering: Settings, archives: list[str]) -> None:
    last = segments(recovering)[-1]
    last.write_bytes(last.read_bytes()[:-20])
    with running_service(recovering) as service:
        assert "events beyond 90 are in the journal" in refusal(service)
        assert service.accept_problem(CODE).about is not None
        wait_until_serving(service)
        assert prefixes(service) == ARCHIVED


def test_a_quarantined_segment_is_named(recovering: Settings, archives: list[str]) -> None:
    last = segments(recovering)[-1]
    last.rename(last.with_name(f"{last.name}.damaged"))
    with running_service(recovering) as service:
        assert f"{last.name}.damaged is damaged, and had events up to 100" in refusal(service)


def test_an_acceptance_counts_for_exactly_that_loss(recovering: Settings, archives: list[str]) -> None:
    shutil.rmtree(recovering.backup_dir / "journal")
    flip(recovering.backup_dir / archives[1], 900)
    with running_service(recovering) as service:
        refusal(service)
        service.accept_problem(CODE)
        wait_until_serving(service)
    shutil.rmtree(recovering.database)
    flip(recovering.backup_dir / archives[0], 900)
    with running_service(recovering) as service:
        assert service.state == "failed"
        assert not recovering.database.exists()


def test_what_the_journal_lost_already_is_no_reason_to_refuse(recovering: Settings, archives: list[str]) -> None:
    """The last second may be lost with the disk: nobody can decide about what nothing holds."""
    segments(recovering)[-1].unlink()
    with running_service(recovering) as service:
        assert prefixes(service) == ARCHIVED
        assert problems(service) == []
        restored = service.status()["lastRestore"]
        assert any("the events up to 100" in note for note in restored["notes"])


def test_a_generation_that_came_later_is_named() -> None:
    generations = [
        Generation("a", None, 0, "created", 1),
        Generation("b", "a", 10, "restored", 2),
        Generation("c", "a", 5, "restored", 3),
        Generation("x", "a", 5, "restored", 3),
    ]
    sources = Sources({generation.id: generation for generation in generations}, [], [], claimed=frozenset("x"))

    def beyond(generation: str) -> list[str]:
        target = Target(generation=generation, sequence=10)
        return list(find_beyond(sources, target, [], installation="i"))

    assert beyond("b") == beyond("c") == []
    assert beyond("a") == [f"generation {later} came after generation a" for later in "bc"]


def test_a_storage_whose_disk_was_away_while_the_service_went_on_names_what_it_lacks(
    recovering: Settings, tmp_path: Path
) -> None:
    with running_service(recovering) as service:
        put(service, 5, "first")
    recovering.storage_dir.rename(tmp_path / "away")
    with running_service(recovering) as service:
        assert prefixes(service) == {"first": 5}
        put(service, 3, "meanwhile")
    shutil.rmtree(recovering.storage_dir)
    (tmp_path / "away").rename(recovering.storage_dir)
    with running_service(recovering) as service:
        assert prefixes(service) == {"first": 5}
        service.append(drafts(1, "later"))
        (problem,) = problems(service)
        assert (problem["code"], problem["acceptable"]) == ("rolled_back", True)
        assert "journal" in problem["message"] or "restore" in problem["hint"]
