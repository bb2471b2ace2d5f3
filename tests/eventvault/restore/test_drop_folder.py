"""`restore/` at a start of the service: what is restored, what stays, and which problems are reported."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from eventvault.errors import NoSpace
from eventvault.restore.swap.intent import Intent
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests.mounts import read_only
from tests.restoring import (
    drafts,
    flip,
    leftovers,
    make_archive,
    make_foreign_archive,
    make_text_archive,
    prefixes,
    problem_codes,
)
from tests.stores import running_service

pytestmark = pytest.mark.slow


@pytest.fixture
def live(settings: Settings) -> Settings:
    """Settings of an installation with two live events; no service runs."""
    with running_service(settings) as service:
        service.append(drafts(2))
    return settings


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_archive_is_restored_and_moved_to_restored(live: Settings) -> None:
    make_archive(live.restore_dir / "any-name.tar.gz")

    with running_service(live) as service:
        status = service.status()
        assert prefixes(service) == {"restored": 3}

    assert (status["status"], status["problems"]) == ("ok", [])
    assert (status["lastRestore"]["source"], status["lastRestore"]["events"]) == ("any-name.tar.gz", 3)
    assert names(live.restore_dir) == ["restored"]
    assert names(live.restore_dir / "restored") == ["any-name.tar.gz"]
    assert not leftovers(live.storage_dir, live.restore_dir)


def test_it_is_not_restored_again_by_the_next_start(live: Settings) -> None:
    make_archive(live.restore_dir / "a.tar.gz")
    with running_service(live) as service:
        service.append(drafts(1, "later"))

    with running_service(live) as service:
        assert prefixes(service) == {"restored": 3, "later": 1}


def test_a_name_that_restored_holds_already_gets_a_number(live: Settings) -> None:
    for _ in range(3):
        make_archive(live.restore_dir / "a.tar.gz")
        with running_service(live):
            pass

    assert names(live.restore_dir / "restored") == ["a.tar.gz", "a_2.tar.gz", "a_3.tar.gz"]


def test_an_archive_of_the_node_js_system_is_restored(live: Settings) -> None:
    make_foreign_archive(live.restore_dir / "node.tar.gz")

    with running_service(live) as service:
        assert prefixes(service) == {"foreign": 3}
        assert service.status()["status"] == "ok"

    assert names(live.restore_dir / "restored") == ["node.tar.gz"]


def test_only_regular_files_that_end_in_tar_gz_are_looked_at(live: Settings, tmp_path: Path) -> None:
    good = make_archive(tmp_path / "good.tar.gz")
    restore = live.restore_dir
    for name in (".hidden.tar.gz", "._a.tar.gz", "a.tgz", "a.tar.gz.part", "a.tar.gz.filepart", "a.tar", "A.TAR.GZ"):
        shutil.copy(good, restore / name)
    (restore / "folder.tar.gz").mkdir()
    (restore / "link.tar.gz").symlink_to(good)
    (restore / "dangling.tar.gz").symlink_to(tmp_path / "nowhere")
    os.mkfifo(restore / "pipe.tar.gz")
    before = names(restore)

    with running_service(live) as service:
        assert prefixes(service) == {"live": 2}
        assert service.status()["problems"] == []

    assert names(restore) == before


def truncated(path: Path) -> None:
    make_archive(path)
    os.truncate(path, path.stat().st_size // 2)


def without_its_end(path: Path) -> None:
    make_archive(path)
    os.truncate(path, path.stat().st_size - 1)


def flipped(path: Path) -> None:
    make_archive(path)
    flip(path, path.stat().st_size // 2)


def text_files(path: Path) -> None:
    make_text_archive(path)


def truncated_foreign(path: Path) -> None:
    make_foreign_archive(path)
    os.truncate(path, path.stat().st_size // 2)


def flipped_foreign(path: Path) -> None:
    make_foreign_archive(path)
    flip(path, path.stat().st_size // 2)


def no_gzip(path: Path) -> None:
    path.write_bytes(b"this is no gzip file at all, it is a line of text\n" * 20)


def empty(path: Path) -> None:
    path.touch()


def reserved(path: Path) -> None:
    path.write_bytes(bytes(4096))


BAD: dict[str, Callable[[Path], None]] = {
    each.__name__: each
    for each in (
        truncated, without_its_end, flipped, text_files, truncated_foreign, flipped_foreign, no_gzip, empty, reserved,
    )
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_stays_is_named_and_touches_no_live_data(live: Settings, kind: str) -> None:
    bad = live.restore_dir / f"{kind}.tar.gz"
    BAD[kind](bad)
    content = bad.read_bytes()

    with running_service(live) as service:
        status = service.status()
        assert prefixes(service) == {"live": 2}
        service.append(drafts(1, "more"))

    (problem,) = status["problems"]
    assert status["status"] == "degraded"
    assert status["lastRestore"] is None
    assert bad.name in problem["message"]
    assert problem["hint"]
    assert bad.read_bytes() == content
    assert names(live.restore_dir) == [bad.name]
    assert not leftovers(live.storage_dir, live.restore_dir)


def test_one_that_is_still_growing_stays(live: Settings) -> None:
    """A foreign archive is being copied: its beginning looks complete at times, and it gets longer."""
    bad = make_archive(live.restore_dir / "growing.tar.gz")
    content = bad.read_bytes()
    bad.write_bytes(content[:-200])

    with running_service(live) as service:
        assert problem_codes(service) == ["restore_refused"]
    bad.write_bytes(content)
    with running_service(live) as service:
        assert prefixes(service) == {"restored": 3}
        assert service.status()["problems"] == []


def test_a_good_one_is_taken_although_a_newer_one_is_bad(live: Settings) -> None:
    make_archive(live.restore_dir / "good.tar.gz")
    bad = make_archive(live.restore_dir / "bad.tar.gz", created="2025-01-01T00:00:00.000Z")
    flip(bad, 300)

    with running_service(live) as service:
        assert prefixes(service) == {"restored": 3}
        (problem,) = service.status()["problems"]

    assert "bad.tar.gz" in problem["message"]
    assert names(live.restore_dir) == ["bad.tar.gz", "restored"]


def test_of_several_the_newest_by_its_manifest_is_taken(live: Settings) -> None:
    make_archive(live.restore_dir / "backup_2030-01-01_000000.tar.gz", "old", created="2020-01-01T00:00:00.000Z")
    make_archive(live.restore_dir / "a.tar.gz", "new", created="2024-06-01T00:00:00.000Z")
    make_archive(live.restore_dir / "z.tar.gz", "middle", created="2023-06-01T00:00:00.000Z")

    with running_service(live) as service:
        assert prefixes(service) == {"new": 3}
        status = service.status()

    said = " ".join(problem["message"] for problem in status["problems"])
    assert status["status"] == "degraded"
    assert len(status["problems"]) == 2
    assert "backup_2030-01-01_000000.tar.gz" in said
    assert "z.tar.gz" in said
    assert names(live.restore_dir) == ["backup_2030-01-01_000000.tar.gz", "restored", "z.tar.gz"]


def test_of_several_without_a_manifest_the_newest_by_its_name_is_taken(live: Settings) -> None:
    for day, order in ((1, 5), (3, 1), (2, 9)):
        path = make_foreign_archive(live.restore_dir / f"backup_2024-12-{day:02}_120000.tar.gz", prefix=f"day{day}")
        os.utime(path, (time.time() + order, time.time() + order))

    with running_service(live) as service:
        assert prefixes(service) == {"day3": 3}


def test_those_that_were_left_are_not_applied_by_a_later_start_and_are_named_again(live: Settings) -> None:
    make_archive(live.restore_dir / "new.tar.gz", "new")
    left = make_archive(live.restore_dir / "old.tar.gz", "old", created="2020-01-01T00:00:00.000Z")
    with running_service(live):
        pass

    for _ in range(2):
        with running_service(live) as service:
            assert prefixes(service) == {"new": 3}
            (problem,) = service.status()["problems"]
            assert left.name in problem["message"]
    left.unlink()
    with running_service(live) as service:
        assert service.status()["problems"] == []


def test_what_is_said_of_a_file_is_said_for_as_long_as_it_is_there(live: Settings) -> None:
    bad = make_text_archive(live.restore_dir / "bad.tar.gz")

    with running_service(live) as service:
        assert problem_codes(service) == ["restore_refused"]
        bad.unlink()
        assert service.status()["status"] == "ok"


def test_a_store_that_takes_over_still_says_what_was_left(live: Settings) -> None:
    make_text_archive(live.restore_dir / "bad.tar.gz")
    with running_service(live):
        pass

    with running_service(live, service_starts=False) as service:
        assert problem_codes(service) == ["restore_refused"]
        assert service.status()["status"] == "degraded"


def test_a_store_that_takes_over_restores_nothing(live: Settings) -> None:
    archive = make_archive(live.restore_dir / "a.tar.gz")

    with running_service(live, service_starts=False) as service:
        assert prefixes(service) == {"live": 2}

    assert archive.exists()


def test_nothing_is_taken_where_auto_restore_is_off(
    live: Settings, settings_with: Callable[[Mapping[str, str]], Settings]
) -> None:
    archive = make_archive(live.restore_dir / "a.tar.gz")

    with running_service(settings_with({"AUTO_RESTORE_ENABLED": "false"})) as service:
        assert prefixes(service) == {"live": 2}
        assert service.status()["status"] == "ok"
    assert archive.exists()
    with running_service(live) as service:
        assert prefixes(service) == {"restored": 3}


@pytest.fixture
def immovable(live: Settings) -> Iterator[Path]:
    """An archive in a `restore/` where nothing can be moved or created, as on a read-only mount."""
    archive = make_archive(live.restore_dir / "a.tar.gz")
    if os.geteuid() == 0:
        with read_only(live.restore_dir):
            yield archive
    else:
        live.restore_dir.chmod(0o500)
        yield archive
        live.restore_dir.chmod(0o700)


def test_a_file_that_cannot_be_moved_away_is_applied_once_only(live: Settings, immovable: Path) -> None:
    with running_service(live) as service:
        assert prefixes(service) == {"restored": 3}
        (problem,) = service.status()["problems"]
        assert immovable.name in problem["message"]
        service.append(drafts(1, "later"))

    for _ in range(2):
        with running_service(live) as service:
            assert prefixes(service) == {"restored": 3, "later": 1}
            assert problem_codes(service) == ["restore_not_moved"]
    assert immovable.exists()


def test_a_restore_folder_that_is_gone_is_made_again(live: Settings) -> None:
    shutil.rmtree(live.restore_dir)

    with running_service(live) as service:
        assert prefixes(service) == {"live": 2}
        assert service.status()["status"] == "ok"

    assert live.restore_dir.is_dir()


def test_a_newest_that_is_still_being_copied_does_not_bring_an_older_one_in(live: Settings) -> None:
    """The next start would replace it at once, with all that was posted in between."""
    new = make_archive(live.restore_dir / "new.tar.gz", "new")
    make_archive(live.restore_dir / "old.tar.gz", "old", created="2020-01-01T00:00:00.000Z")
    whole = new.read_bytes()
    os.truncate(new, len(whole) // 2)

    with running_service(live) as service:
        assert prefixes(service) == {"live": 2}
        (problem,) = service.status()["problems"]
        assert "new.tar.gz" in problem["message"]

    new.write_bytes(whole)
    with running_service(live) as service:
        assert prefixes(service) == {"new": 3}


def test_what_was_passed_over_for_one_that_could_not_be_applied_is_not_left_for_good(live: Settings) -> None:
    new = make_archive(live.restore_dir / "new.tar.gz", "new")
    make_archive(live.restore_dir / "old.tar.gz", "old", created="2020-01-01T00:00:00.000Z")
    service = StoreService(live, service_starts=True, with_kafka=False, health_shared=0.0)

    def full(_: object) -> Intent:
        raise NoSpace("noting the restore failed", hint="free some space")

    service.restorer.swapper.swap_closed = full  # type: ignore[method-assign]
    service.initialize()
    try:
        assert prefixes(service) == {"live": 2}
        assert not any("old.tar.gz" in problem["message"] for problem in service.status()["problems"])
    finally:
        service.stop()
        service.bus.close()
    new.unlink()
    with running_service(live) as later:
        assert prefixes(later) == {"old": 3}


def test_a_file_without_room_to_unpack_does_not_bring_an_older_one_in(live: Settings) -> None:
    """NoSpace is no fault of the newest archive: nobody expects an older one in its place."""
    make_archive(live.restore_dir / "new.tar.gz", "new")
    make_archive(live.restore_dir / "old.tar.gz", "old", created="2020-01-01T00:00:00.000Z")
    service = StoreService(live, service_starts=True, with_kafka=False, health_shared=0.0)

    def full(name: str, **arguments: object) -> dict[str, object]:
        raise NoSpace(f"unpacking {arguments['archive']} failed", hint="free some space")

    service.chores.run = full  # type: ignore[method-assign]
    service.initialize()
    try:
        assert prefixes(service) == {"live": 2}
        assert any("new.tar.gz" in problem["message"] for problem in service.status()["problems"])
    finally:
        service.stop()
        service.bus.close()
    with running_service(live) as later:
        assert prefixes(later) == {"new": 3}
