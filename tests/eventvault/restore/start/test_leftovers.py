"""A start removes what killed processes wrote half, and nothing that is being written while it starts."""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec
import pytest

from eventvault import data_folders
from eventvault.backups.uploads import ABANDONED_SECONDS
from eventvault.restore.start.leftovers import Leftovers
from eventvault.restore.swap import intent as intents
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests.eventvault.restore.swap.test_intent import INTENT
from tests.restoring import drafts
from tests.stores import running_service


def touched(*files: Path) -> list[Path]:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return list(files)


def make_old(file: Path) -> None:
    then = time.time() - ABANDONED_SECONDS - 60
    os.utime(file, (then, then))


def test_leftovers_of_a_killed_preparation_are_removed_but_what_an_intent_names_is_not(tmp_path: Path) -> None:
    for name in (".restoring-aa", ".restoring-bb", ".restoring-cc", ".checkpoint-1", ".past-1", "previous-g0"):
        (tmp_path / name).mkdir()
    touched(tmp_path / ".last_restore.json.00.tmp")
    intents.write_intent(tmp_path, INTENT)
    staged = msgspec.structs.replace(INTENT, new_database=".restoring-cc/event_registry_db")
    intents.write_intent(tmp_path, staged, data_folders.STAGED_RESTORE)

    Leftovers(tmp_path, tmp_path / "backups").remove_from_storage()

    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == [
        ".restoring-aa", ".restoring-cc", "previous-g0",
    ]  # fmt: skip
    assert not list(tmp_path.glob("*.tmp"))


def test_what_the_store_writes_while_it_starts_stays(settings: Settings) -> None:
    half = touched(
        settings.storage_dir / ".problems.json.00.tmp",
        settings.storage_dir / ".restoring-00" / "half",
        settings.backup_dir / ".catalogue.json.00.tmp",
    )
    service = StoreService(settings, with_kafka=False)
    being_written = touched(  # by requests, which it answers before it has started
        settings.storage_dir / ".problems.json.11.tmp",
        settings.storage_dir / ".restoring-11" / "half",
        settings.backup_dir / ".catalogue.json.11.tmp",
    )

    service.initialize()
    try:
        assert [file for file in half if file.exists()] == []
        assert [file for file in being_written if file.exists()] == being_written
    finally:
        service.stop()
        service.bus.close()


@pytest.mark.parametrize("name", [".upload.aa.tmp", ".tokens.json.aa.tmp"])
def test_what_other_processes_write_is_removed_once_it_is_abandoned(tmp_path: Path, name: str) -> None:
    for is_old in (False, True):
        (file,) = touched(tmp_path / name)
        if is_old:
            make_old(file)
        Leftovers(tmp_path / "storage", tmp_path).remove_from_backups()
        assert file.exists() is not is_old


def test_a_folder_of_somebody_in_backup_dir_stays_whatever_its_name(tmp_path: Path) -> None:
    (theirs,) = touched(tmp_path / ".theirs.tmp" / "file")
    Leftovers(tmp_path / "storage", tmp_path).remove_from_backups()
    assert theirs.exists()


def test_the_journal_removes_no_file_while_a_request_has_it_write(settings: Settings) -> None:
    with running_service(settings) as service:
        service.append(drafts(1))
        assert service.journal.flush()
    segment = next((settings.backup_dir / data_folders.JOURNAL).glob("*/*"))
    (file,) = touched(segment.with_name(f".{segment.name}.00.tmp"))

    service = StoreService(settings, with_kafka=False)
    with service.journal._turn.held():
        service.journal.start()
        assert file.exists()
    service.journal.stop()
    with running_service(settings):
        assert not file.exists()
