"""A start does not take the folder beneath a disk that is not mounted for a lost database (D6)."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from app.cli.backup.recover import RecoverCommand
from eventvault import data_folders
from eventvault.backups.storage_mount import check_mounted, note_mount
from eventvault.settings import Settings
from tests.failing_calls import FailingCalls
from tests.mounts import tiny_disk
from tests.restoring import drafts, ids, make_foreign_archive, problem_codes
from tests.stores import running_service

QUICK = {"JOURNAL_INTERVAL": "10", "AUTO_BACKUP_ENABLED": "false"}
MEGABYTES = 50
SettingsWith = Callable[..., Settings]

pytestmark = pytest.mark.root


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return tmp_path / "disk"


@pytest.fixture(params=["", "below", "below/deep"])
def settings_on(request: pytest.FixtureRequest, settings_with: SettingsWith, disk: Path) -> SettingsWith:
    """Settings whose STORAGE_DIR is the mounted disk, or lies below it."""
    return lambda **more: settings_with({**QUICK, "STORAGE_DIR": str(disk / request.param), **more})


def use(settings: Settings, disk: Path, *, restarts: int = 1) -> None:
    """Run a service on the mounted disk, which is gone afterwards."""
    with tiny_disk(disk, MEGABYTES):
        for number in range(restarts):
            with running_service(settings) as service:
                service.append(drafts(2, f"run-{number}"))
                service.create_backup()


@pytest.mark.slow
@pytest.mark.parametrize("recover", ["true", "false", "empty"])
def test_nothing_is_recovered_or_begun_beneath_a_disk_that_is_not_mounted(
    settings_on: SettingsWith, disk: Path, recover: str
) -> None:
    settings = settings_on(AUTO_RECOVER=recover)
    use(settings, disk, restarts=2)
    make_foreign_archive(settings.restore_dir / "dropped.tar.gz")
    with running_service(settings) as service:
        (problem,) = [one for one in service.status()["problems"] if one["code"] == "database_missing"]
        assert f"mounted at {disk}:" in problem["message"]
        assert "mount that disk" in problem["hint"]
        assert not settings.database.exists()
        (settings.restore_dir / "dropped.tar.gz").unlink()
    with tiny_disk(disk, MEGABYTES), running_service(settings) as service:
        # The disk is mounted, and it is empty: this is a loss.
        assert problem_codes(service) == (["database_missing"] if recover == "false" else [])


@pytest.mark.slow
def test_an_operator_recovers_where_the_disk_is_gone_for_good(settings_on: SettingsWith, disk: Path) -> None:
    settings = settings_on()
    use(settings, disk)
    assert RecoverCommand(settings).run()["events"] == 2
    with running_service(settings) as service:
        assert ids(service) == ["run-0-0", "run-0-1"]
    shutil.rmtree(settings.storage_dir)
    with running_service(settings_on(AUTO_RECOVER="true")) as service:
        assert (len(ids(service)), problem_codes(service)) == (2, [])


@pytest.mark.slow
@pytest.mark.parametrize("sign", ["elsewhere", "removed", "damaged", "never mounted"])
def test_without_that_sign_a_lost_database_is_recovered(
    settings_with: SettingsWith, disk: Path, tmp_path: Path, sign: str
) -> None:
    settings = settings_with({**QUICK, "STORAGE_DIR": str(disk / "storage"), "AUTO_RECOVER": "true"})
    note = settings.backup_dir / data_folders.INSTALLATION_STORAGE
    if sign == "never mounted":
        with running_service(settings) as service:
            service.append(drafts(2, "run-0"))
            service.create_backup()
        shutil.rmtree(settings.storage_dir)
    else:
        use(settings, disk)
    if sign == "elsewhere":
        settings = settings_with({**QUICK, "STORAGE_DIR": str(tmp_path / "new"), "AUTO_RECOVER": "true"})
    elif sign == "removed":
        note.unlink()
    elif sign == "damaged":
        note.write_bytes(b"\xff" + note.read_bytes())
    with running_service(settings) as service:
        assert ids(service) == ["run-0-0", "run-0-1"]
        assert problem_codes(service) == (["file_damaged"] if sign == "damaged" else [])


@pytest.mark.slow
def test_a_disk_that_the_system_does_not_show_for_a_moment_is_not_missing(
    settings_with: SettingsWith, disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_with({**QUICK, "STORAGE_DIR": str(disk)})
    for name, value in settings.to_environment().items():
        monkeypatch.setenv(name, value)
    with tiny_disk(disk, MEGABYTES):
        note_mount(settings)
        failing = FailingCalls(disk.parent, tmp_path)
        assert failing.refusal_of(check_mounted, first=f"lstat64 of {disk}") == f"error {errno.EIO}"
