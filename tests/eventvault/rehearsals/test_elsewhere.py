"""Rehearsals from a copy of backups/ alone, on another machine. Nothing is written into the copy."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from eventvault import data_folders
from eventvault.errors import BackupNotFound, InvalidInput, MomentUnavailable
from eventvault.rehearsals.elsewhere import rehearse_copy
from eventvault.restore.values import Moment
from eventvault.settings import Settings, load
from tests.mounts import read_only
from tests.restoring import drafts, flip, forge_archive, live, make_archive, make_foreign_archive, put
from tests.stores import folders_beneath, running_service

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """backups/ of an installation with seven events: an archive of three, and the journal."""
    folder = tmp_path_factory.mktemp("made")
    settings = load({**folders_beneath(folder), "JOURNAL_INTERVAL": "3600000"})
    with running_service(settings) as service:
        put(service, 3, "a")
        service.create_backup()
        put(service, 4, "b")
        assert len(live(service)) == 7
    return settings.backup_dir


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copy"))


@pytest.fixture
def elsewhere(tmp_path: Path) -> Settings:
    """The settings of another machine, on which no service ever ran."""
    return load(folders_beneath(tmp_path / "elsewhere"))


def state_of(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every file and folder beneath `folder`, with its times and content."""
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_mtime_ns,
            path.lstat().st_ctime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in (folder, *sorted(folder.rglob("*")))
    }


def archive_in(folder: Path) -> Path:
    (archive,) = folder.glob("*.tar.gz")
    return archive


def test_the_newest_state_is_rehearsed_and_the_copy_stays_as_it_is(copy: Path, elsewhere: Settings) -> None:
    before = state_of(copy)

    result = rehearse_copy(elsewhere, copy, None)

    assert (result.ok, result.kind, result.events, result.proven) == (True, "newest", 7, True)
    assert result.backup == archive_in(copy).name
    assert (result.compared, result.rpo_events, result.rpo_seconds) == (0, None, None)
    assert (result.rto_seconds or 0) > 0
    assert state_of(copy) == before
    assert list(elsewhere.storage_dir.iterdir()) == []
    assert not elsewhere.backup_dir.exists()


def test_an_archive_by_its_name_and_a_moment_too(copy: Path, elsewhere: Settings) -> None:
    name = archive_in(copy).name

    assert rehearse_copy(elsewhere, copy, name).events == 3
    assert rehearse_copy(elsewhere, copy, Moment(sequence=5)).events == 5
    with pytest.raises(MomentUnavailable):
        rehearse_copy(elsewhere, copy, Moment(sequence=8))
    with pytest.raises(BackupNotFound) as unknown:
        rehearse_copy(elsewhere, copy, "backup_2024-12-27_120000.tar.gz")
    assert f"ls {copy}" in unknown.value.hint  # no service can be asked about a copy


def damage_small_files(copy: Path) -> None:
    for path in copy.rglob(".*.json"):
        path.write_bytes(b"{")
    (copy / data_folders.JOURNAL / data_folders.JOURNAL_RECORD).write_bytes(b"{")


def remove_hidden_files(copy: Path) -> None:
    for path in copy.rglob(".*"):
        path.unlink()


def remove_journal(copy: Path) -> None:
    shutil.rmtree(copy / data_folders.JOURNAL)


def remove_hidden_files_and_journal(copy: Path) -> None:
    remove_hidden_files(copy)
    remove_journal(copy)


def remove_archive(copy: Path) -> None:
    archive_in(copy).unlink()


def remove_catalogue(copy: Path) -> None:
    (copy / data_folders.CATALOGUE).unlink()


@pytest.mark.parametrize(
    ("change", "events", "proven"),
    [
        (damage_small_files, 7, True),
        (remove_hidden_files, 7, True),
        (remove_hidden_files_and_journal, 3, False),
        (remove_journal, 3, True),
        (remove_archive, 7, True),
        (remove_catalogue, 7, True),
    ],
)
def test_whatever_the_copy_lacks_it_is_not_written_to(
    copy: Path, elsewhere: Settings, change: Callable[[Path], None], events: int, proven: bool
) -> None:
    change(copy)
    before = state_of(copy)

    result = rehearse_copy(elsewhere, copy, None)

    assert (result.ok, result.events, result.proven) == (True, events, proven), result
    assert state_of(copy) == before


def test_one_flipped_bit_fails_and_says_where_and_the_copy_stays_as_it_is(copy: Path, elsewhere: Settings) -> None:
    archive = archive_in(copy)
    flip(archive, archive.stat().st_size // 2)
    before = state_of(copy)

    result = rehearse_copy(elsewhere, copy, archive.name)

    assert not result.ok
    assert result.problem is not None
    assert (result.problem.code, "byte" in result.problem.message) == ("archive_damaged", True)
    assert state_of(copy) == before


@pytest.mark.parametrize("make", [make_archive, make_foreign_archive])
def test_a_folder_of_archives_of_any_origin_is_enough(
    tmp_path: Path, elsewhere: Settings, make: Callable[[Path], Path]
) -> None:
    folder = tmp_path / "archives"
    folder.mkdir()
    make(folder / "one.tar.gz")
    before = state_of(folder)

    result = rehearse_copy(elsewhere, folder, None)

    assert (result.ok, result.backup, result.events, result.proven) == (True, "one.tar.gz", 3, False)
    assert state_of(folder) == before


def test_an_archive_that_the_key_in_the_copy_does_not_prove_is_replayed(copy: Path, elsewhere: Settings) -> None:
    forged = forge_archive(archive_in(copy), copy / "forged.tar.gz", 4)

    result = rehearse_copy(elsewhere, copy, forged.name)

    assert (result.ok, result.events, result.proven) == (True, 4, False)


def test_a_folder_that_is_missing_or_holds_nothing_is_refused(tmp_path: Path, elsewhere: Settings) -> None:
    with pytest.raises(InvalidInput):
        rehearse_copy(elsewhere, tmp_path / "missing", None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BackupNotFound):
        rehearse_copy(elsewhere, tmp_path / "empty", None)
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_service_on_that_machine_goes_on_untouched(copy: Path, elsewhere: Settings) -> None:
    with running_service(elsewhere) as service:
        service.append(drafts(2, "theirs"))

        result = rehearse_copy(elsewhere, copy, None)

        assert (result.ok, result.events, result.compared) == (True, 7, 0)
        assert len(live(service)) == 2
        assert service.list_rehearsals() == []


@pytest.mark.root
def test_a_read_only_disk_will_do(copy: Path, elsewhere: Settings) -> None:
    with read_only(copy):
        assert rehearse_copy(elsewhere, copy, None).ok
