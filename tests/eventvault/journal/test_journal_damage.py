"""Damaged segments: events in the database are written again, others are reported, and nothing stops."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from eventvault.journal import scrub, segment
from eventvault.journal.segment import Segment
from eventvault.restore.values import Moment
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests import processes
from tests.restoring import drafts, flip, live, problem_codes
from tests.stores import running_service

pytestmark = pytest.mark.slow


@pytest.fixture
def recovering(settings_with: Callable[..., Settings]) -> Settings:
    """Segments are written when a test asks for it."""
    return settings_with({"JOURNAL_INTERVAL": "3600000", "AUTO_RECOVER": "true"})


def put(service: StoreService, count: int, prefix: str = "a") -> None:
    """Write this many segments of one event each."""
    for number in range(count):
        service.append(drafts(1, f"{prefix}-{number}"))
        assert service.journal.flush()


def there(service: StoreService) -> list[Segment]:
    return service.journal.folder.segments()[0]


def grow_old(path: Path) -> None:
    """Make the file look as if it was written long ago, so that it may be quarantined."""
    os.utime(path, (1, 1))


def damage(path: Path) -> None:
    flip(path, -10)
    grow_old(path)


def survey(service: StoreService) -> None:
    """Survey three times: to find damage, to find the missing events, and to find what is complete again."""
    for _ in range(3):
        assert service.journal.flush(1.0, survey=True)


def read_all(service: StoreService) -> None:
    """Enough surveys for the scrub to have read every segment, and for what follows from it."""
    for _ in range(len(there(service)) + 1):
        survey(service)


def test_what_the_database_has_is_written_again_and_merging_goes_on(recovering: Settings) -> None:
    with running_service(recovering) as service:
        put(service, 16)
        events, bad = live(service), there(service)[4].path
        damage(bad)

        survey(service)

        (merged,) = there(service)
        assert segment.read_lines(merged) == events
        assert {path.name for path in bad.parent.iterdir()} == {merged.path.name, f"{bad.name}.damaged"}
        assert problem_codes(service) == []
    shutil.rmtree(recovering.storage_dir)
    with running_service(recovering) as service:
        assert live(service) == events


def test_a_header_that_cannot_be_read_counts_for_no_events(recovering: Settings) -> None:
    with running_service(recovering) as service:
        put(service, 3)
        bad = there(service)[1].path
        bad.write_bytes(b"no header")
        grow_old(bad)

        survey(service)

        assert [(each.first, each.last) for each in there(service)] == [(1, 1), (2, 2), (3, 3)]
        assert [line for each in there(service) for line in segment.read_lines(each)] == live(service)
        assert problem_codes(service) == []


def left_behind(service: StoreService) -> Segment:
    """Return a segment with events that the database does not hold any more."""
    service.append(drafts(3))
    assert service.journal.flush()
    service.restore_moment(Moment(sequence=2))
    (found,) = there(service)
    return found


def test_what_nothing_else_has_is_said_until_a_good_copy_is_there(recovering: Settings, tmp_path: Path) -> None:
    with running_service(recovering) as service:
        bad = left_behind(service)
        shutil.copy(bad.path, tmp_path / "good")
        bad.path.write_bytes(b"no header")
        grow_old(bad.path)

        survey(service)

        assert problem_codes(service) == ["journal_damaged"]
        (problem,) = service.status()["problems"]
        assert f"events 1 to 3 of generation {bad.generation}" in problem["message"]
        assert problem["hint"]
        shutil.copy(tmp_path / "good", bad.path)
        survey(service)
        assert problem_codes(service) == []
        service.restore_moment(Moment(sequence=3, generation=bad.generation))


def test_what_nothing_else_has_is_said_until_it_is_removed(recovering: Settings) -> None:
    with running_service(recovering) as service:
        bad = left_behind(service).path
        bad.write_bytes(b"no header")
        grow_old(bad)
        survey(service)
        assert problem_codes(service) == ["journal_damaged"]
    with running_service(recovering) as service:
        survey(service)
        assert problem_codes(service) == ["journal_damaged"]
        bad.with_name(f"{bad.name}.damaged").unlink()
        survey(service)
        assert problem_codes(service) == []


def test_what_an_archive_has_is_not_said_to_be_lost_and_goes_with_what_the_archive_has(recovering: Settings) -> None:
    with running_service(recovering) as service:
        service.append(drafts(3))
        assert service.journal.flush()
        (bad,) = there(service)
        service.create_backup()
        service.restore_moment(Moment(sequence=2))
        bad.path.write_bytes(b"no header")
        grow_old(bad.path)

        survey(service)

        assert problem_codes(service) == []
        assert not bad.path.parent.exists()


def test_a_file_that_is_on_its_way_here_is_left_alone(recovering: Settings) -> None:
    with running_service(recovering) as service:
        copied = left_behind(service).path
        whole = copied.read_bytes()
        copied.write_bytes(whole[:50])

        survey(service)

        assert copied.read_bytes() == whole[:50]
        copied.write_bytes(whole)
        survey(service)
        assert copied in [each.path for each in there(service)]
        assert problem_codes(service) == []


def test_what_a_killed_merge_left_stays_where_the_merged_one_is_damaged(recovering: Settings) -> None:
    with running_service(recovering) as service:
        put(service, 3)
        small = there(service)
        lines = [line for each in small for line in segment.read_lines(each)]
        damage(segment.write_segment(small[0].path.parent, small[0].header, lines).path)

        survey(service)

        assert [(each.first, each.last) for each in there(service)] == [(1, 1), (2, 2), (3, 3)]
        assert [line for each in there(service) for line in segment.read_lines(each)] == live(service)
        assert not problem_codes(service)


def test_damage_that_a_restore_met_is_written_again(recovering: Settings) -> None:
    with running_service(recovering) as service:
        put(service, 5)
        left, bad = live(service), there(service)[1].path
        damage(bad)

        service.restore_moment(Moment(sequence=4))
        assert bad.exists()
        survey(service)

        assert bad.with_name(bad.name + ".damaged").exists()
        assert problem_codes(service) == []
    shutil.rmtree(recovering.storage_dir)
    with running_service(recovering) as service:
        assert live(service) == left[:4]


def test_damage_that_nobody_meets_is_found_in_time(recovering: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrub, "READ_INTERVAL_SECONDS", 0.0)
    with running_service(recovering) as service:
        put(service, 3)
        left, bad = live(service), there(service)[1].path
        damage(bad)

        read_all(service)

        assert bad.with_name(bad.name + ".damaged").exists()
    shutil.rmtree(recovering.storage_dir)
    with running_service(recovering) as service:
        assert live(service) == left


def test_one_that_cannot_be_read_stops_nothing_else(recovering: Settings) -> None:
    with running_service(recovering) as service:
        put(service, 4)
        left = live(service)
        service.restore_moment(Moment(sequence=1))
        put(service, 1, "later")
        bad = next(each.path for each in there(service) if each.first == 3)
        bad.unlink()
        bad.mkdir()

        survey(service)

        (problem,) = service.status()["problems"]
        assert (problem["code"], "cannot be read" in problem["message"]) == ("journal_damaged", True)
        assert service.timeline()["window"]["newest"]["sequence"] == 2
        put(service, 1, "more")
        expected = live(service)
    shutil.rmtree(recovering.storage_dir)
    with running_service(recovering) as service:
        assert live(service) == expected
        service.restore_moment(Moment(sequence=2, generation=bad.parent.name))
        assert live(service) == left[:2]


@pytest.fixture
def bad_sectors(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Inodes of segments whose header can be read and whose events cannot."""
    bad: set[int] = set()
    read = segment._content

    def failing(path: Path) -> bytes:
        if path.stat().st_ino in bad:
            raise segment.unreadable_error(path, OSError(errno.EIO, os.strerror(errno.EIO)))
        return read(path)

    monkeypatch.setattr(segment, "_content", failing)
    monkeypatch.setattr(scrub, "READ_INTERVAL_SECONDS", 0.0)
    return bad


def test_what_the_disk_does_not_give_any_more_is_written_again(recovering: Settings, bad_sectors: set[int]) -> None:
    with running_service(recovering) as service:
        put(service, 3)
        left, bad = live(service), there(service)[1].path
        bad_sectors.add(bad.stat().st_ino)
        read_all(service)

        assert bad.stat().st_ino not in bad_sectors
        assert problem_codes(service) == []
    shutil.rmtree(recovering.storage_dir)
    with running_service(recovering) as service:
        assert live(service) == left


def test_what_the_disk_does_not_give_and_nothing_else_has_is_said_until_it_does(
    recovering: Settings, bad_sectors: set[int]
) -> None:
    with running_service(recovering) as service:
        put(service, 3)
        left, events = there(service)[0].generation, live(service)
        service.restore_moment(Moment(sequence=1))
        bad_sectors |= {each.path.stat().st_ino for each in there(service) if each.first == 3}
        read_all(service)

        assert problem_codes(service) == ["journal_damaged"]
        bad_sectors.clear()
        read_all(service)
        assert problem_codes(service) == []
        service.restore_moment(Moment(sequence=3, generation=left))
        assert live(service) == events


@pytest.mark.parametrize("which", [2, slice(None)], ids=["one", "all"])
def test_a_recovery_waits_for_what_cannot_be_read(recovering: Settings, which: int | slice) -> None:
    with running_service(recovering) as service:
        put(service, 1)
        service.create_backup()
        put(service, 3, "later")
        expected, found = live(service), [each.path for each in there(service) if each.last > 1]
    shutil.rmtree(recovering.storage_dir)
    away = recovering.backup_dir / "away"
    away.mkdir()
    for path in found[which] if isinstance(which, slice) else [found[which]]:
        path.rename(away / path.name)
        path.mkdir()

    with running_service(recovering) as service:
        (problem,) = service.status()["problems"]
        assert (problem["code"], "can be read: reading" in problem["message"]) == ("backups_unavailable", True)
        assert not recovering.database.exists()
        for path in away.iterdir():
            (found[0].parent / path.name).rmdir()
            path.rename(found[0].parent / path.name)

        processes.wait_until(lambda: service.status()["store"]["state"] == "serving", "it did not recover by itself")
        assert live(service) == expected
