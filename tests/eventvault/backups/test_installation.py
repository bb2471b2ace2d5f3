"""The id by which an installation recognises its own archives."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eventvault import data_folders, small_files
from eventvault.backups.installation import ensure_installation, installation_of
from eventvault.errors import BackupsUnavailable, TooBusy
from eventvault.settings import Settings
from tests.restoring import drafts, prefixes
from tests.stores import running_service


def test_it_is_made_once_and_kept_in_both_folders(settings: Settings) -> None:
    first = installation_of(settings)

    assert installation_of(settings) == first
    assert (settings.backup_dir / data_folders.INSTALLATION).read_text() == first
    assert (settings.storage_dir / data_folders.INSTALLATION).read_text() == first


@pytest.mark.parametrize("lost", ["storage_dir", "backup_dir"])
def test_one_folder_alone_tells_it(settings: Settings, lost: str) -> None:
    first = installation_of(settings)
    shutil.rmtree(getattr(settings, lost))

    assert installation_of(settings) == first
    assert (getattr(settings, lost) / data_folders.INSTALLATION).read_text() == first


def test_both_gone_make_a_new_one(settings: Settings) -> None:
    first = installation_of(settings)
    shutil.rmtree(settings.storage_dir)
    shutil.rmtree(settings.backup_dir)

    assert installation_of(settings) != first


def test_that_beside_the_archives_counts(settings: Settings) -> None:
    installation_of(settings)
    (settings.backup_dir / data_folders.CHECKED_INSTALLATION).unlink()
    (settings.backup_dir / data_folders.INSTALLATION).write_text("theirs")

    assert installation_of(settings) == "theirs"
    assert (settings.storage_dir / data_folders.INSTALLATION).read_text() == "theirs"
    (settings.storage_dir / data_folders.INSTALLATION).unlink()
    (settings.backup_dir / data_folders.INSTALLATION).unlink()
    assert installation_of(settings) == "theirs"


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["storage_dir", "backup_dir"])
@pytest.mark.parametrize("name", [data_folders.INSTALLATION, data_folders.CHECKED_INSTALLATION])
def test_no_flipped_bit_of_a_file_with_the_id_changes_the_id(settings: Settings, folder: str, name: str) -> None:
    first = installation_of(settings)
    path = getattr(settings, folder) / name
    content = path.read_bytes()

    for position in range(len(content)):
        flipped = bytearray(content)
        flipped[position] ^= 1 << position % 8
        path.write_bytes(flipped)
        assert installation_of(settings) == first
        assert path.read_bytes() == content


def test_an_id_that_cannot_be_read_is_never_replaced_by_a_new_one(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = installation_of(settings)
    for file in settings.storage_dir.iterdir():
        file.unlink()

    with monkeypatch.context() as patch:
        patch.setattr(small_files, "read_bytes", fail_in(settings.backup_dir, small_files.read_bytes))
        with pytest.raises(TooBusy, match="Too many open files"):
            installation_of(settings)
        assert list(settings.storage_dir.iterdir()) == []
    assert installation_of(settings) == first


def fail_in(folder: Path, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that fails for the files in `folder`."""

    def fail(path: Path) -> Any:
        if path.parent == folder:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))
        return function(path)

    return fail


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"  \n"])
def test_one_that_is_damaged_is_made_good_from_the_other(settings: Settings, content: bytes) -> None:
    first = installation_of(settings)
    (settings.backup_dir / data_folders.INSTALLATION).write_bytes(content)

    assert installation_of(settings) == first
    assert (settings.backup_dir / data_folders.INSTALLATION).read_text() == first


def test_a_backup_folder_that_cannot_be_written_keeps_nobody_from_serving(settings: Settings) -> None:
    settings.backup_dir.parent.mkdir(parents=True, exist_ok=True)
    settings.backup_dir.write_text("in the way")

    first = installation_of(settings)

    assert (settings.storage_dir / data_folders.INSTALLATION).read_text() == first
    with pytest.raises(BackupsUnavailable):
        ensure_installation(settings, first)
    settings.backup_dir.unlink()
    ensure_installation(settings, first)
    assert (settings.backup_dir / data_folders.INSTALLATION).read_text() == first


@pytest.mark.slow
def test_the_journal_tells_it_where_backups_were_copied_without_hidden_files(
    settings_with: Callable[..., Settings],
) -> None:
    settings = settings_with({"AUTO_RECOVER": "true"})
    with running_service(settings) as service:
        service.append(drafts(3))
        service.create_backup()
        service.append(drafts(2, "later"))
    first = (settings.backup_dir / data_folders.INSTALLATION).read_text()
    shutil.rmtree(settings.storage_dir)
    for hidden in settings.backup_dir.glob(".*"):
        hidden.unlink()

    with running_service(settings) as service:
        assert prefixes(service) == {"live": 3, "later": 2}
    assert (settings.backup_dir / data_folders.INSTALLATION).read_text() == first
