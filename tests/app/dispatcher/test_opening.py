"""What health and requests get while `jobs_db` cannot be opened, and what is said of damaged small files."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import plyvel
import pytest

from app.dispatcher import opening as module
from app.dispatcher.opening import Opening
from eventvault import data_folders, small_files
from eventvault.backups import storage_mount
from eventvault.database import opening as database_opening
from eventvault.errors import DatabaseMissing, NoSpace
from eventvault.jobs.memory_transport import MemoryTransport
from eventvault.settings import Settings
from tests.processes import wait_until


@pytest.fixture
def opening(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Opening]:
    monkeypatch.setattr(module, "AGAIN_SECONDS", 0.05)
    settings.storage_dir.mkdir()
    opening = Opening(settings, MemoryTransport())
    yield opening
    opening.stop(0.0)


@pytest.mark.parametrize(
    ("place", "loss"),
    [
        ("jobs/unfinished.jsonl.gz", "the undamaged part of it was taken over"),
        ("jobs_worker.json", "an earlier worker may go on for a while beside the new one"),
    ],
)
def test_a_damaged_small_file_is_named_until_somebody_removes_it(
    opening: Opening, settings: Settings, place: str, loss: str
) -> None:
    folder = settings.backup_dir if "/" in place else settings.storage_dir
    path = folder / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"no gzip")
    if folder == settings.storage_dir:
        path.rename(path.with_name(f"{path.name}.damaged"))  # as the thread of the local worker does
    opened = threading.Event()
    opening.start(opened.set)
    assert opened.wait(90)
    (problem,) = opening.jobs().status().problems
    assert (problem.code, problem.about) == ("file_damaged", f"{path}.damaged")
    assert problem.message == f"{path} was damaged and is {path}.damaged now; {loss}"
    path.with_name(f"{path.name}.damaged").unlink()
    assert opening.jobs().status().problems == []


@pytest.mark.slow
def test_while_the_disk_refuses_it_jobs_are_read_and_later_it_is_opened(
    settings: Settings, opening: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Opening(settings, MemoryTransport())
    opened = threading.Event()
    first.start(opened.set)
    assert opened.wait(90)
    first.stop(0.0)

    def refuse(*_: object, **__: object) -> None:
        raise plyvel.IOError(b"IO error: /data/storage/jobs_db/000009.log: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(database_opening, "_open_examined", refuse)
        reopened = threading.Event()
        opening.start(reopened.set)
        wait_until(lambda: opening.dispatcher.database.is_readable, "nothing can be read")
        assert opening.jobs().list_jobs([], [], 10, None).jobs == []
        with pytest.raises(NoSpace):
            opening.jobs().status()
    assert reopened.wait(90)
    assert opening.jobs().status().problems == []
    assert (settings.storage_dir / data_folders.JOBS_DATABASE).is_dir()


@pytest.mark.slow
def test_no_database_is_made_where_the_disk_of_storage_is_not_mounted(opening: Opening, settings: Settings) -> None:
    """Else jobs would be accepted beneath it, and the copy of those that are out of sight replaced."""
    settings.backup_dir.mkdir()
    noted = settings.backup_dir / data_folders.INSTALLATION_STORAGE
    small_files.write(noted, storage_mount._StorageFile(1, str(settings.storage_dir)))
    opened = threading.Event()
    opening.start(opened.set)
    with pytest.raises(DatabaseMissing, match="the disk that was mounted"):
        opening.jobs()
    assert not (settings.storage_dir / data_folders.JOBS_DATABASE).exists()
    noted.unlink()
    assert opened.wait(90)
    assert opening.jobs().status().problems == []
