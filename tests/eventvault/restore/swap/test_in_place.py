"""A database whose folder cannot be renamed, by a link, a mount or an overlay, is restored all the same."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from eventvault import data_folders
from eventvault.errors import DatabaseMissing, NoSpace, StoreRestoring
from eventvault.restore.swap import in_place
from eventvault.settings import Settings
from eventvault.store import lifecycle
from tests.mounts import bound, overlaid, tiny_disk
from tests.restoring import drafts, leftovers, make_archive, prefixes
from tests.stores import running_service

pytestmark = pytest.mark.slow

Fixed = Callable[[Settings], AbstractContextManager[None]]


@contextmanager
def linked(settings: Settings) -> Iterator[None]:
    elsewhere = settings.storage_dir.parent / "elsewhere"
    move_or_make(settings.database, elsewhere)
    settings.database.symlink_to(elsewhere)
    yield
    assert settings.database.is_symlink()
    assert (elsewhere / "CURRENT").exists()


@contextmanager
def linked_to_another_disk(settings: Settings) -> Iterator[None]:
    with tiny_disk(settings.storage_dir.parent / "disk", 64) as disk:
        move_or_make(settings.database, disk / "db")
        settings.database.symlink_to(disk / "db")
        yield
        assert settings.database.resolve().stat().st_dev == disk.stat().st_dev


@contextmanager
def mounted(settings: Settings) -> Iterator[None]:
    volume = settings.storage_dir.parent / "volume"
    move_or_make(settings.database, volume)
    settings.database.mkdir()
    (volume / "lost+found").mkdir()
    with bound(volume, settings.database):
        yield
    assert (volume / "CURRENT").exists()
    settings.database.rmdir()


@contextmanager
def in_an_image(settings: Settings) -> Iterator[None]:
    settings.storage_dir.mkdir(exist_ok=True)
    with overlaid(settings.storage_dir, settings.storage_dir.parent / "upper"):
        yield


def move_or_make(database: Path, target: Path) -> None:
    if database.exists():
        shutil.move(database, target)
    else:
        database.parent.mkdir(exist_ok=True)
        target.mkdir()


@pytest.fixture(params=[linked, linked_to_another_disk, mounted, in_an_image])
def fixed(request: pytest.FixtureRequest) -> Fixed:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def live(settings: Settings) -> Settings:
    with running_service(settings) as service:
        service.append(drafts(2))
    return settings


def test_a_restore_and_its_undo(live: Settings, fixed: Fixed) -> None:
    with fixed(live):
        with running_service(live) as service:
            made = service.create_backup().backup.name
            service.append(drafts(1, "later"))
            assert service.restore(made).events == 2
            assert prefixes(service) == {"live": 2}
            assert service.append(drafts(1, "more")).last_sequence == 3
            assert service.undo().events == 3
            assert prefixes(service) == {"live": 2, "later": 1}
        with running_service(live) as service:
            assert prefixes(service) == {"live": 2, "later": 1}
            assert service.status()["problems"] == []
        assert not leftovers(live.storage_dir)


def test_an_archive_in_restore_and_a_staged_restore(live: Settings, fixed: Fixed) -> None:
    with fixed(live):
        make_archive(live.restore_dir / "a.tar.gz")
        with running_service(live) as service:
            assert prefixes(service) == {"restored": 3}
            made = service.create_backup().backup.name
            service.append(drafts(1, "later"))
            assert service.restore(made, staged=True).staged
        with running_service(live) as service:
            assert prefixes(service) == {"restored": 3}
            assert service.status()["problems"] == []
        assert not leftovers(live.storage_dir, live.restore_dir)


def test_a_fresh_installation(settings: Settings, fixed: Fixed) -> None:
    with fixed(settings):
        for count in (1, 2):
            with running_service(settings) as service:
                assert service.append(drafts(1, f"run-{count}")).last_sequence == count
                assert service.status()["problems"] == []


def test_a_lost_database_is_recovered(live: Settings, settings_with: Callable[..., Settings], fixed: Fixed) -> None:
    with running_service(live) as service:
        service.create_backup()
    shutil.rmtree(live.database)
    with fixed(live), running_service(settings_with({"AUTO_RECOVER": "true"})) as service:
        assert prefixes(service) == {"live": 2}


def test_a_link_whose_disk_is_not_mounted_is_never_replaced(live: Settings) -> None:
    elsewhere = live.storage_dir.parent / "elsewhere"
    live.database.rename(elsewhere)
    live.database.symlink_to(elsewhere)
    with running_service(live) as service:
        made = service.create_backup().backup.name
    away = elsewhere.rename(elsewhere.with_name("away"))

    with running_service(live) as service:
        (problem,) = service.status()["problems"]
        assert problem["code"] == "database_missing"
        assert str(elsewhere) in problem["message"]
        with pytest.raises(DatabaseMissing, match="not a folder"):
            service.restore(made)
    assert live.database.is_symlink()
    assert not leftovers(live.storage_dir)

    away.rename(elsewhere)
    with running_service(live) as service:
        assert prefixes(service) == {"live": 2}


def test_a_disk_without_room_for_the_new_database_changes_nothing(
    live: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with linked_to_another_disk(live):
        with running_service(live) as service:
            made = service.create_backup().backup.name
            monkeypatch.setattr(in_place, "free_bytes", lambda _: -(2**40))
            with pytest.raises(NoSpace, match="the new database needs"):
                service.restore(made)
            assert prefixes(service) == {"live": 2}
        with running_service(live) as service:
            assert prefixes(service) == {"live": 2}
            assert service.list_undo() == []
        assert not leftovers(live.storage_dir)


def test_a_disk_that_fails_in_between_is_tried_again(live: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with linked(live):
        with running_service(live) as service:
            made = service.create_backup().backup.name
            service.append(drafts(1, "later"))
            put = in_place._put

            def failing(files: Sequence[Path], target: Path) -> None:
                if target == live.database:
                    raise OSError(errno.EIO, os.strerror(errno.EIO), str(target))
                put(files, target)

            monkeypatch.setattr(in_place, "_put", failing)
            monkeypatch.setattr(lifecycle, "STARTING_SECONDS", 0.5)
            with pytest.raises(StoreRestoring, match=os.strerror(errno.EIO)):
                service.restore(made)
        monkeypatch.undo()
        with running_service(live) as service:
            assert prefixes(service) == {"live": 2}
            assert service.undo().events == 3


def test_what_was_half_put_into_a_new_volume_is_no_database(settings: Settings) -> None:
    settings.database.mkdir(parents=True)
    for name in (data_folders.FILLING, "MANIFEST-000002", "000003.log", "CURRENT"):
        (settings.database / name).write_bytes(b"")

    with running_service(settings) as service:
        assert service.append(drafts(1)).last_sequence == 1
        assert service.status()["problems"] == []
