"""An installation with twenty archives of format 1 goes on, and its next backup takes their members over."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from eventvault import clock, data_folders
from eventvault.archive import reader
from eventvault.backups.catalogue_file import ArchiveRecord, Summary
from eventvault.files import FileIdentity
from eventvault.settings import Settings
from tests import format_1
from tests.filled import fill
from tests.restoring import append_random, live, written_archives
from tests.stores import running_service

COUNT = 20
QUIET = {"JOURNAL_INTERVAL": "3600000", "AUTO_BACKUP_ENABLED": "false"}


class EarlierCatalogue(msgspec.Struct):
    """As 0.1.0 wrote it, without a checksum."""

    format: int
    archives: dict[str, ArchiveRecord]


@pytest.fixture(params=["the disk of the tests", "xfs"])
def settings(request: pytest.FixtureRequest, settings_with: Callable[..., Settings], tmp_path: Path) -> Settings:
    """An installation whose archives were made by EventVault 0.1.0, each of the same events."""
    places: dict[str, str] = {}
    if request.param == "xfs":
        places["BACKUP_DIR"] = str(request.getfixturevalue("folder_on")("xfs"))
    chosen: Settings = settings_with({**QUIET, **places})
    fill(chosen.database, 3_000_000)
    with running_service(chosen) as service:
        made = service.create_backup().backup
        service.backups.late_check.wait()
    about = reader.unpack(Path(made.path), tmp_path / "unpacked").manifest
    Path(made.path).unlink()
    for name in (data_folders.CATALOGUE, data_folders.SHARED_RUNS):
        (chosen.backup_dir / name).unlink(missing_ok=True)
    (chosen.storage_dir / data_folders.ARCHIVED_TABLES).unlink()
    records = {}
    for number in range(COUNT):
        name = f"backup_2024-12-27_1200{number:02}.tar.gz"
        described = msgspec.structs.replace(about, name=name, created=f"2024-12-27T12:00:{number:02}.000Z")
        path = chosen.backup_dir / name
        complete = format_1.write_archive(path, tmp_path / "unpacked" / data_folders.DATABASE, described)
        identity = FileIdentity.at(path)
        assert identity is not None
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        records[name] = ArchiveRecord(
            identity, Summary.of(complete), origin="created", verified=clock.now(), sha256=digest
        )
    catalogue = msgspec.json.encode(EarlierCatalogue(1, records))
    (chosen.backup_dir / data_folders.CATALOGUE).write_bytes(catalogue)
    return chosen


@pytest.mark.root
@pytest.mark.slow
def test_the_next_backup_takes_their_members_over(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_service(settings) as service:
        answers = written_archives(service, monkeypatch)
        entries = service.list_backups()
        assert len(entries) == COUNT
        assert all(entry.origin_proven and entry.verified and not entry.problem for entry in entries)
        assert service.status()["status"] == "ok"
        append_random(service, 20)
        present = live(service)

        first = service.create_backup().backup
        service.backups.late_check.wait()
        second = service.create_backup().backup

        assert [answer["copied"] > answer["size"] // 2 for answer in answers] == [True, True]
        kept = service.list_backups()
        assert len(kept) == settings.max_backups
        assert not any(entry.problem for entry in kept)
        assert service.status()["status"] == "ok"
        for entry in (first, second, kept[-1]):
            assert service.verify_backup(entry.name, records=True).problem is None
        assert service.restore(second.name).events == second.events
        assert live(service) == present
        assert service.restore(kept[-1].name).events == kept[-1].events


@pytest.mark.root
@pytest.mark.slow
def test_members_of_archives_that_nothing_proves_are_not_taken_over(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    (settings.backup_dir / data_folders.CATALOGUE).unlink()
    shutil.rmtree(settings.backup_dir / data_folders.JOURNAL, ignore_errors=True)
    with running_service(settings) as service:
        answers = written_archives(service, monkeypatch)
        made = service.create_backup().backup

        assert answers[0]["copied"] == 0
        assert service.verify_backup(made.name, records=True).problem is None
        assert len(service.list_backups()) == COUNT + 1, "only what is proven to be ours is rotated"
