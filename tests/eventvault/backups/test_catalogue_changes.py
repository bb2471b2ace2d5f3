"""The catalogue when archives are removed, disks fail, folders vanish and many threads work."""

from __future__ import annotations

import errno
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from eventvault.backups import catalogue_file
from eventvault.errors import (
    BackupNotFound,
    BackupsUnavailable,
    NoSpace,
)
from tests.eventvault.archive_folder import Folder, listed


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "backups")


def test_remove_takes_the_archive_and_all_that_is_known_of_it(folder: Folder) -> None:
    folder.put("a.tar.gz")
    folder.put("b.tar.gz")
    catalogue = folder.catalogue()
    catalogue.set_pinned("a.tar.gz", pinned=True)
    catalogue.remove("a.tar.gz")
    assert not (folder.path / "a.tar.gz").exists()
    assert listed(catalogue) == ["b.tar.gz"]
    assert "a.tar.gz" not in catalogue_file.load(folder.path)
    folder.put("a.tar.gz")
    assert not catalogue.entry("a.tar.gz").pinned
    with pytest.raises(BackupNotFound):
        catalogue.remove("c.tar.gz")


def test_the_reference_is_gone_before_the_archive_is(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.put("a.tar.gz")
    catalogue = folder.catalogue()
    catalogue.set_pinned("a.tar.gz", pinned=True)
    known: list[bool] = []
    real = Path.unlink

    def unlink(path: Path, missing_ok: bool = False) -> None:
        if path.name == "a.tar.gz":
            known.append("a.tar.gz" in catalogue_file.load(folder.path))
        real(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    catalogue.remove("a.tar.gz")
    assert known == [False]


def test_an_archive_that_cannot_be_removed_keeps_what_is_known_of_it(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.put("a.tar.gz")
    catalogue = folder.catalogue()
    before = catalogue.set_pinned("a.tar.gz", pinned=True)

    def refused(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EPERM, "Operation not permitted", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refused)
        with pytest.raises(BackupsUnavailable, match=r"removing a\.tar\.gz failed: Operation not permitted"):
            catalogue.remove("a.tar.gz")
    assert catalogue.entry("a.tar.gz") == folder.catalogue().entry("a.tar.gz") == before


def full(*_args: object, **_more: object) -> None:
    raise NoSpace("writing failed: No space left on device")


def test_on_a_full_disk_lists_work_and_a_pin_that_was_not_kept_is_not_shown(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.put("a.tar.gz")
    catalogue = folder.catalogue()
    with monkeypatch.context() as patch:
        patch.setattr(catalogue_file, "save", full)
        assert listed(catalogue) == ["a.tar.gz"]
        with pytest.raises(NoSpace):
            catalogue.set_pinned("a.tar.gz", pinned=True)
        assert not catalogue.entry("a.tar.gz").pinned
    catalogue.entries()
    assert "a.tar.gz" in catalogue_file.load(folder.path)


def test_a_folder_that_vanished_is_said_so_and_its_return_brings_everything_back(folder: Folder) -> None:
    folder.put("a.tar.gz")
    catalogue = folder.catalogue()
    catalogue.set_pinned("a.tar.gz", pinned=True)
    away = folder.path.with_name("away")
    folder.path.rename(away)
    with pytest.raises(
        BackupsUnavailable, match=f"listing the backups failed: No such file or directory: {folder.path}"
    ):
        catalogue.entries()
    with pytest.raises(BackupsUnavailable, match="looking for"):
        catalogue.entry("a.tar.gz")
    folder.path.mkdir()
    assert catalogue.entries() == []
    folder.path.rmdir()
    away.rename(folder.path)
    assert [(entry.name, entry.pinned) for entry in catalogue.entries()] == [("a.tar.gz", True)]
    shutil.rmtree(folder.path)
    folder.path.write_text("a file in its place")
    with pytest.raises(BackupsUnavailable) as caught:
        catalogue.entries()
    assert str(folder.path) in caught.value.message


def test_a_list_does_not_wait_while_the_catalogue_is_being_written(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.put("a.tar.gz")
    catalogue = folder.catalogue()
    writing, go_on = threading.Event(), threading.Event()
    real = catalogue_file.save

    def slow(*args: Any) -> None:
        writing.set()
        assert go_on.wait(60)
        real(*args)

    monkeypatch.setattr(catalogue_file, "save", slow)
    pinning = threading.Thread(target=catalogue.set_pinned, args=("a.tar.gz",), kwargs={"pinned": True})
    pinning.start()
    assert writing.wait(60)
    assert [entry.pinned for entry in catalogue.entries()] == [False]
    go_on.set()
    pinning.join()
    assert [entry.pinned for entry in catalogue.entries()] == [True]


@pytest.mark.slow
def test_many_threads_lose_no_change(folder: Folder) -> None:
    names = [f"{number}.tar.gz" for number in range(24)]
    for name in names:
        folder.put(name)
    catalogue = folder.catalogue()
    failures: list[BaseException] = []

    def work(mine: list[str]) -> None:
        try:
            for name in mine:
                catalogue.record_created(name, sha256="5" * 64, verified=9)
                catalogue.entries()
                catalogue.set_pinned(name, pinned=True)
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=work, args=(names[number::4],)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    for view in (catalogue, folder.catalogue()):
        assert [(entry.verified, entry.pinned) for entry in view.entries()] == [(9, True)] * len(names)
