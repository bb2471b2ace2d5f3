"""An upload enters the catalogue completely or gets no name, also if the store ends meanwhile."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eventvault.errors import BackupExists, NoSpace
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


def test_another_archive_of_the_same_bytes_is_there_already(service: StoreService, upload: Path) -> None:
    (service.settings.backup_dir / "a.tar.gz").write_bytes(upload.read_bytes())

    with pytest.raises(BackupExists):
        service.adopt_upload(str(upload), "a.tar.gz")

    assert upload.exists()
