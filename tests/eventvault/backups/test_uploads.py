"""An upload enters the catalogue completely or gets no name, also if the store ends meanwhile."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eventvault.backups.uploads import ABANDONED_SECONDS, AbandonedUploads
from eventvault.errors import BackupExists, BackupsChanged, NoSpace
from eventvault.operations.operation import Operation, working_on
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests.restoring import make_archive
from tests.stores import running_service


@pytest.fixture
def service(settings: Settings) -> Iterator[StoreService]:
    with running_service(settings) as running:
        yield running


@pytest.fixture
def upload(service: StoreService) -> Path:
    """The temporary file that the HTTP edge writes into BACKUP_DIR."""
    return make_archive(service.settings.backup_dir / "a.tar.gz").rename(
        service.settings.backup_dir / ".upload.1a2b.tmp"
    )


@pytest.mark.slow
def test_an_upload_that_could_not_be_entered_leaves_its_name_free(
    service: StoreService, upload: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = upload.read_bytes()

    def full(*_: Any, **__: Any) -> None:
        raise NoSpace("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(service.catalogue, "record_uploaded", full)
        with pytest.raises(NoSpace):
            service.adopt_upload(str(upload), "a.tar.gz")
    assert service.list_backups() == []

    upload.write_bytes(content)
    assert service.adopt_upload(str(upload), "a.tar.gz").origin == "uploaded"


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["both names are there", "the temporary name is gone"])
def test_a_store_that_takes_over_finishes_an_upload_that_had_its_name(
    service: StoreService, upload: Path, moment: str
) -> None:
    os.link(upload, service.settings.backup_dir / "a.tar.gz")
    if moment == "the temporary name is gone":
        upload.unlink()

    entry = service.adopt_upload(str(upload), "a.tar.gz")

    assert (entry.origin, entry.problem, bool(entry.digest)) == ("uploaded", None, True)
    assert not upload.exists()
    assert service.list_backups() == [entry]
    assert service.adopt_upload(str(upload), "a.tar.gz") == entry


@pytest.mark.slow
def test_another_archive_of_the_same_bytes_is_there_already(service: StoreService, upload: Path) -> None:
    (service.settings.backup_dir / "a.tar.gz").write_bytes(upload.read_bytes())

    with pytest.raises(BackupExists):
        service.adopt_upload(str(upload), "a.tar.gz")

    assert upload.exists()


@pytest.mark.slow
@pytest.mark.parametrize("entered", [True, False])
def test_a_client_that_sends_its_archive_again_gets_the_entry_of_the_first_one(
    service: StoreService, upload: Path, *, entered: bool
) -> None:
    again, named = upload.with_name(".upload.3c4d.tmp"), upload.with_name("a.tar.gz")
    shutil.copyfile(upload, again)
    first = Operation()
    with working_on(first):
        service.calls["adopt_upload"](str(upload), "a.tar.gz" if entered else "b.tar.gz")
    if not entered:  # a store that is killed leaves the name and the note
        shutil.copyfile(again, named)

    with working_on(Operation(first.id, first.notes)):
        entry = service.calls["adopt_upload"](str(again), "a.tar.gz")

    assert (entry.name, entry.origin, entry.problem) == ("a.tar.gz", "uploaded", None)
    assert named.exists()


@pytest.mark.slow
def test_an_upload_that_was_noted_takes_no_name_that_another_archive_has(service: StoreService, upload: Path) -> None:
    again = upload.with_name(".upload.3c4d.tmp")
    shutil.copyfile(upload, again)
    first = Operation()
    with working_on(first):
        service.calls["adopt_upload"](str(upload), "b.tar.gz")
    make_archive(upload.with_name("a.tar.gz"), "other")

    with working_on(Operation(first.id, first.notes)), pytest.raises(BackupExists):
        service.calls["adopt_upload"](str(again), "a.tar.gz")


def test_a_store_that_runs_removes_the_upload_of_a_killed_process(tmp_path: Path) -> None:
    old, young = tmp_path / ".upload.aa.tmp", tmp_path / ".upload.bb.tmp"
    for path in (old, young):
        path.touch()
    then = time.time() - ABANDONED_SECONDS - 60
    os.utime(old, (then, then))

    AbandonedUploads(tmp_path, lambda: None).each_second()

    assert not old.exists()
    assert young.exists()


def test_no_upload_is_removed_from_a_folder_that_is_not_ours(tmp_path: Path) -> None:
    upload = tmp_path / ".upload.aa.tmp"
    upload.touch()
    os.utime(upload, (0, 0))

    def refuse() -> None:
        raise BackupsChanged("another installation's", hint="see health")

    AbandonedUploads(tmp_path, refuse).each_second()

    assert upload.exists()
