"""Data files are for their owner; FILE_GROUP_READ lets the group read them; a start mends what it finds."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from eventvault import data_folders, file_modes
from eventvault.backups.installation_key import ensure_key
from eventvault.settings import Settings
from tests.restoring import put
from tests.stores import folders_beneath, running_service

pytestmark = pytest.mark.slow


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def modes(*folders: Path) -> dict[str, int]:
    """The mode of each file and folder, by its path beneath the folders' parent."""
    paths = [path for folder in folders for path in (folder, *folder.rglob("*"))]
    return {str(path.relative_to(folders[0].parent)): mode_of(path) for path in paths if not path.is_symlink()}


SECRET = (f"storage/{data_folders.INSTALLATION_KEY}", f"storage/{data_folders.AUDIT_NOTE}")


@pytest.fixture(params=["false", "true"])
def either(request: pytest.FixtureRequest, settings_with: Callable[..., Settings]) -> Settings:
    return settings_with({"FILE_GROUP_READ": request.param})


@pytest.fixture
def written(either: Settings) -> Settings:
    """What a service leaves behind that restricts nothing, as an earlier version did."""
    before = os.umask(0o000)
    with running_service(either) as service:
        put(service, 3, "a")
        service.create_backup()
    os.umask(before)
    return either


def test_a_start_mends_the_modes_of_all_that_was_made(written: Settings) -> None:
    (written.restore_dir / data_folders.RESTORED).mkdir()
    (written.restore_dir / data_folders.RESTORED / "a.tar.gz").write_bytes(b"x")
    folders = (written.storage_dir, written.backup_dir, written.restore_dir / data_folders.RESTORED)
    assert any(mode & 0o007 for mode in modes(*folders).values())

    file_modes.mend_modes(written)

    group = 0o040 if written.file_group_read else 0
    for name, mode in modes(*folders).items():
        secret = name in SECRET or name.startswith("backups/audit/")
        if (written.storage_dir.parent / name).is_dir():
            assert mode == 0o700 | (0o050 if group else 0), name
        elif not secret:
            assert mode & 0o077 == group, name
        else:
            assert mode == 0o600, name
    assert mode_of(written.backup_dir / data_folders.INSTALLATION_KEY) == 0o600 | group


def test_a_changed_setting_holds_from_the_next_start_on(
    written: Settings, settings_with: Callable[..., Settings]
) -> None:
    (archive,) = written.backup_dir.glob("*.tar.gz")
    for group_read, mode in (("true", 0o640), ("false", 0o600), ("true", 0o640)):
        with running_service(settings_with({"FILE_GROUP_READ": group_read})):
            assert mode_of(archive) == mode
            assert mode_of(written.backup_dir / data_folders.INSTALLATION_KEY) == mode
            assert mode_of(written.backup_dir) == mode | 0o100 | (0o010 if mode & 0o040 else 0)
        assert mode_of(written.storage_dir / data_folders.INSTALLATION_KEY) == 0o600


def test_files_that_others_made_or_that_lie_there_by_chance_keep_their_mode(written: Settings, tmp_path: Path) -> None:
    note, dropped, target = written.backup_dir / "notes.txt", written.restore_dir / "new.tar.gz", tmp_path / "target"
    for path in (note, dropped, target):
        path.write_bytes(b"x")
        path.chmod(0o644)
    written.restore_dir.chmod(0o775)
    (written.backup_dir / "linked.tar.gz").symlink_to(target)
    (written.storage_dir / "link").symlink_to(tmp_path)
    folder = mode_of(tmp_path)
    theirs = written.backup_dir / "theirs.tar.gz"
    theirs.write_bytes(b"x")
    theirs.chmod(0o644)
    if os.geteuid() == 0:
        os.chown(theirs, 65534, 65534)

    file_modes.mend_modes(written)

    assert [mode_of(path) for path in (note, dropped, target)] == [0o644] * 3
    assert (mode_of(written.restore_dir), mode_of(tmp_path)) == (0o775, folder)
    if os.geteuid() == 0:
        assert mode_of(theirs) == 0o644


def test_a_disk_without_modes_is_logged_once_and_stops_nothing(
    written: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(path: Path, _mode: int) -> None:
        raise PermissionError(1, "Operation not permitted", str(path))

    monkeypatch.setattr(Path, "chmod", refuse)
    caplog.clear()
    with running_service(written) as service:
        assert service.status()["status"] == "ok"
    (line,) = [record.getMessage() for record in caplog.records if "mode" in record.getMessage()]
    assert "Operation not permitted" in line


@pytest.mark.parametrize("folder", ["storage_dir", "backup_dir", "restore_dir"])
def test_a_folder_that_is_missing_or_cannot_be_read_stops_nothing(written: Settings, folder: str) -> None:
    path: Path = getattr(written, folder)
    path.rename(path.with_name("away"))
    file_modes.mend_modes(written)
    path.write_text("in the way")
    file_modes.mend_modes(written)
    path.unlink()


def test_the_backups_of_another_installation_keep_their_modes(
    written: Settings, settings_with: Callable[..., Settings], tmp_path: Path
) -> None:
    other = settings_with(folders_beneath(tmp_path / "elsewhere"))
    ensure_key(other)
    shutil.copy(other.backup_dir / data_folders.INSTALLATION_KEY, written.backup_dir)
    (archive,) = written.backup_dir.glob("*.tar.gz")
    before = mode_of(archive)
    with running_service(written):
        assert mode_of(archive) == before != 0o600
        assert mode_of(written.storage_dir) & 0o007 == 0


def test_the_copy_of_the_key_is_made_for_the_group_too(either: Settings) -> None:
    ensure_key(either)
    wanted = 0o640 if either.file_group_read else 0o600
    assert mode_of(either.backup_dir / data_folders.INSTALLATION_KEY) == wanted
    assert mode_of(either.storage_dir / data_folders.INSTALLATION_KEY) == 0o600
