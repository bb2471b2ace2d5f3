"""STORAGE_DIR knows which BACKUP_DIR belongs to it; nothing is written to another one until that is accepted (D6)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest

from eventvault import data_folders
from eventvault.backups import installation_folder
from eventvault.backups.installation_folder import check_folder
from eventvault.errors import BackupsChanged, NothingToAccept
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests.failing_calls import FailingCalls
from tests.mounts import read_only, tiny_disk
from tests.processes import wait_until
from tests.restoring import drafts, flip, ids, prefixes
from tests.service import PROJECT
from tests.stores import running_service

pytestmark = pytest.mark.slow

QUICK = {"JOURNAL_INTERVAL": "3600000", "AUTO_BACKUP_ENABLED": "false"}
"""The journal writes when it is asked to: none of its rounds begins before the folder is replaced and ends after it."""


@pytest.fixture
def quick(settings_with: Callable[..., Settings]) -> Settings:
    return settings_with(QUICK)


@pytest.fixture
def service(quick: Settings) -> Iterator[StoreService]:
    """A service with two events in a backup and one in the journal."""
    with running_service(quick) as service:
        service.append(drafts(2))
        service.create_backup()
        service.append(drafts(1, "journaled"))
        assert service.journal.flush()
        yield service


def away(settings: Settings) -> Path:
    return settings.backup_dir.with_name("away")


def unmount(settings: Settings) -> None:
    """What is seen where the disk of BACKUP_DIR goes: an empty folder."""
    settings.backup_dir.rename(away(settings))
    settings.backup_dir.mkdir()


def mount_again(settings: Settings) -> None:
    settings.backup_dir.rename(settings.backup_dir.with_name("beneath"))
    away(settings).rename(settings.backup_dir)


def codes(service: StoreService) -> list[str]:
    return [problem["code"] for problem in service.status()["problems"]]


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def poll_journal(service: StoreService) -> None:
    service.journal.refresh()
    service.journal.flush(survey=True)


def refusals(service: StoreService, archive: str) -> Iterator[Callable[[], object]]:
    yield service.create_backup
    yield service.backups.create_if_changed
    yield lambda: check_folder(service.settings)
    if (service.settings.backup_dir / archive).exists():
        yield lambda: service.pin_backup(archive, pinned=True)
        yield lambda: service.delete_backup(archive, force=True)


def test_nothing_is_written_while_the_disk_is_away_and_all_goes_on_once_it_is_back(
    service: StoreService, quick: Settings
) -> None:
    unmount(quick)
    service.append(drafts(3, "meanwhile"))
    poll_journal(service)

    for refused in refusals(service, "-"):
        with pytest.raises(BackupsChanged, match="nothing of this installation"):
            refused()
    (problem,) = service.status()["problems"]
    assert (problem["code"], problem["acceptable"]) == ("backups_changed", True)
    assert problem["since"] is not None
    wait_until(lambda: service.status()["journal"]["secondsAtRisk"] > 0, "nothing is at risk")
    assert files_in(quick.backup_dir) == []

    mount_again(quick)
    poll_journal(service)
    assert service.status()["problems"] == []
    assert service.journal.status()["lastSequence"] == 6
    assert service.create_backup().backup.events == 6


def test_a_write_that_ended_after_the_disk_went_does_not_make_the_folder_beneath_ours(
    service: StoreService, quick: Settings
) -> None:
    written = (".installation.key", ".installation.json", "journal")
    unmount(quick)
    for name in written:
        copy = shutil.copytree if name == "journal" else shutil.copy2
        copy(away(quick) / name, quick.backup_dir / name)  # type: ignore[operator]
    archive = next(away(quick).glob("*.tar.gz"))
    shutil.copy2(archive, quick.backup_dir)

    for refused in refusals(service, archive.name):
        with pytest.raises(BackupsChanged):
            refused()
    assert codes(service) == ["backups_changed"]
    assert not (quick.backup_dir / data_folders.INSTALLATION_FOLDER).exists()
    mount_again(quick)
    assert codes(service) == []


def test_a_segment_alone_does_not_make_the_folder_beneath_ours_after_a_start(
    service: StoreService, quick: Settings
) -> None:
    service.stop()
    service.bus.close()
    unmount(quick)
    shutil.copytree(away(quick) / "journal", quick.backup_dir / "journal")
    with running_service(quick) as started:
        assert codes(started) == ["backups_changed"]


@pytest.mark.parametrize("replaced_before", ["_bind_if_needed", "_make_marked", "_confirm"])
def test_a_disk_that_goes_while_the_folder_is_compared_is_noticed(
    service: StoreService, quick: Settings, replaced_before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (quick.backup_dir / data_folders.INSTALLATION_FOLDER).unlink()  # so that it has to be bound again
    step = getattr(installation_folder, replaced_before)

    def replace_folder_first(*arguments: object) -> object:
        monkeypatch.undo()
        unmount(quick)
        return step(*arguments)

    monkeypatch.setattr(installation_folder, replaced_before, replace_folder_first)
    with suppress(BackupsChanged):
        check_folder(quick)
    with pytest.raises(BackupsChanged):
        check_folder(quick)
    assert files_in(quick.backup_dir) == []


def test_storage_is_not_bound_to_another_folder_that_comes_while_ours_is_compared(
    service: StoreService, quick: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    unmount(quick)
    (quick.backup_dir / data_folders.INSTALLATION_FOLDER).write_bytes(
        (away(quick) / data_folders.INSTALLATION_FOLDER).read_bytes()
    )
    bound = (quick.storage_dir / data_folders.INSTALLATION_FOLDER).read_bytes()
    compare = installation_folder._find_change

    def replaced_after(settings: Settings) -> str | None:
        found = compare(settings)
        other = installation_folder._FolderFile(1, "0123456789abcdef")
        installation_folder._write(settings.backup_dir, other)
        return found

    monkeypatch.setattr(installation_folder, "_find_change", replaced_after)
    with pytest.raises(BackupsChanged):
        check_folder(quick)
    assert (quick.storage_dir / data_folders.INSTALLATION_FOLDER).read_bytes() == bound


def test_a_start_with_the_disk_away_serves_and_writes_nothing_there(quick: Settings, service: StoreService) -> None:
    service.stop()
    service.bus.close()
    unmount(quick)
    with running_service(quick) as started:
        started.append(drafts(2, "meanwhile"))
        poll_journal(started)
        assert codes(started) == ["backups_changed"]
        assert len(ids(started)) == 5
        assert files_in(quick.backup_dir) == []
        mount_again(quick)
        poll_journal(started)
        assert codes(started) == []
        assert started.create_backup().backup.events == 5


def test_an_old_copy_of_the_database_continues_no_generation_while_the_disk_is_away(
    quick: Settings, service: StoreService
) -> None:
    service.stop()
    service.bus.close()
    shutil.copytree(quick.database, quick.storage_dir / "old")
    with running_service(quick) as started:
        started.append(drafts(2, "lost"))
        assert started.journal.flush()
        generation = started.status()["store"]["generation"]
    shutil.rmtree(quick.database)
    (quick.storage_dir / "old").rename(quick.database)
    unmount(quick)
    with running_service(quick) as started:
        started.append(drafts(2, "later"))
        assert started.status()["store"]["generation"] != generation
    mount_again(quick)
    with running_service(quick) as started:
        wait_until(lambda: codes(started) == ["rolled_back"], "what is not here is not named")
        assert prefixes(started) == {"live": 2, "journaled": 1, "later": 2}


def test_an_accepted_folder_is_used_and_the_earlier_one_is_another_then(service: StoreService, quick: Settings) -> None:
    unmount(quick)
    assert service.accept_problem("backups_changed").code == "backups_changed"
    poll_journal(service)
    assert service.status()["problems"] == []
    assert service.create_backup().backup.events == 3
    with pytest.raises(NothingToAccept):
        service.accept_problem("backups_changed")
    with running_service_again(service) as started:
        assert codes(started) == []
        assert len(started.list_backups()) == 1
        poll_journal(started)  # the first round has ended

        mount_again(quick)
        (archive,) = [path.name for path in quick.backup_dir.glob("*.tar.gz")]
        before = files_in(quick.backup_dir)
        for refused in refusals(started, archive):
            with pytest.raises(BackupsChanged, match="another folder"):
                refused()
        assert files_in(quick.backup_dir) == before
        started.accept_problem("backups_changed")
        assert started.create_backup().backup.events == 3


def running_service_again(service: StoreService):  # type: ignore[no-untyped-def]
    service.stop()
    service.bus.close()
    return running_service(service.settings)


def test_backups_whose_hidden_files_were_not_copied_are_recognised(service: StoreService, quick: Settings) -> None:
    for hidden in quick.backup_dir.glob(".*"):
        hidden.unlink()
    with running_service_again(service) as started:
        assert codes(started) == []
        started.create_backup()


def test_a_folder_with_our_archives_alone_is_recognised(service: StoreService, quick: Settings) -> None:
    service.stop()
    service.bus.close()
    shutil.rmtree(quick.backup_dir / "journal")
    for hidden in quick.backup_dir.glob(".*"):
        hidden.unlink()
    with running_service(quick) as started:
        assert codes(started) == []
        started.create_backup()


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("back", [False, True])
def test_a_folder_that_was_deleted_is_not_made_again_until_that_is_accepted(
    service: StoreService, quick: Settings, restarted: bool, back: bool
) -> None:
    quick.backup_dir.rename(away(quick))
    with running_service_again(service) if restarted else nullcontext(service) as there:
        poll_journal(there)
        assert codes(there) == ["backups_changed"]
        for refused in refusals(there, next(away(quick).glob("*.tar.gz")).name):
            with pytest.raises(BackupsChanged):
                refused()
        there.append(drafts(1, "later"))
        assert not quick.backup_dir.exists() or files_in(quick.backup_dir) == []
        if back:
            shutil.rmtree(quick.backup_dir, ignore_errors=True)
            away(quick).rename(quick.backup_dir)
        else:
            there.accept_problem("backups_changed")
        poll_journal(there)
        assert codes(there) == []
        assert there.journal.status()["lastSequence"] == 4
        assert len(there.list_backups()) == back
        assert there.create_backup().backup.events == 4


def test_a_folder_that_went_with_the_file_system_above_it_is_not_made_again(
    settings_with: Callable[..., Settings], tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    settings = settings_with({**QUICK, "BACKUP_DIR": str(disk / "deep" / "backups")})
    with tiny_disk(disk, 50), running_service(settings) as service:
        service.append(drafts(2))
        service.create_backup()
    with running_service(settings) as service:
        assert codes(service) == ["backups_changed"]
        poll_journal(service)
        with pytest.raises(BackupsChanged):
            service.create_backup()
        assert [path for path in disk.rglob("*") if not path.is_dir()] == []


@pytest.mark.parametrize("present", ["ours", "empty", "gone"])
def test_an_installation_of_0_1_0_is_bound_to_its_backups_and_to_no_empty_folder(
    present: str, quick: Settings, tmp_path: Path
) -> None:
    shutil.unpack_archive(PROJECT / "tests/fixtures/installation-0.1.0/used.tar.gz", tmp_path, filter="data")
    for name in ("storage", "backups"):
        (tmp_path / name).rename(getattr(quick, f"{name.removesuffix('s')}_dir"))
    if present != "ours":
        quick.backup_dir.rename(away(quick))
    if present == "empty":
        quick.backup_dir.mkdir()
    with running_service(quick) as service:
        poll_journal(service)
        assert codes(service) == (["backups_changed"] if present == "empty" else [])
        assert (files_in(quick.backup_dir) == []) == (present == "empty")


def test_a_new_service_whose_folder_could_not_be_written_at_first_takes_it_later(quick: Settings) -> None:
    quick.backup_dir.mkdir(parents=True)
    with read_only(quick.backup_dir):
        service = StoreService(quick, with_kafka=False, health_shared=0.0)
        service.initialize()
        service.append(drafts(2))
        service.stop()
        service.bus.close()
    with running_service(quick) as service:
        assert service.create_backup().backup.events == 2
        assert codes(service) == []
    quick.backup_dir.rename(away(quick))
    quick.backup_dir.mkdir()
    with running_service(quick) as service:
        assert codes(service) == ["backups_changed"]


def test_a_lost_database_is_not_begun_anew_while_its_backups_are_away(
    service: StoreService, settings_with: Callable[..., Settings], quick: Settings
) -> None:
    service.stop()
    service.bus.close()
    unmount(quick)
    shutil.rmtree(quick.database)
    for recover in ("false", "true"):
        with running_service(settings_with({**QUICK, "AUTO_RECOVER": recover})) as started:
            missing, changed = started.status()["problems"]
            assert (missing["code"], changed["code"]) == ("database_missing", "backups_changed")
            assert "is not the folder" in missing["message"]
    mount_again(quick)
    with running_service(settings_with({**QUICK, "AUTO_RECOVER": "true"})) as started:
        assert codes(started) == []
        assert prefixes(started) == {"live": 2, "journaled": 1}


def test_a_flipped_bit_in_either_file_changes_nothing(service: StoreService, quick: Settings) -> None:
    for folder in (quick.storage_dir, quick.backup_dir):
        path = folder / data_folders.INSTALLATION_FOLDER
        content = path.read_bytes()
        for position in range(0, len(content), 5):
            flip(path, position)
            check_folder(quick)
            assert json.loads(path.read_bytes())["folder"] == json.loads(content)["folder"]
        for damaged in folder.glob("*.damaged*"):
            damaged.unlink()
    assert codes(service) == []


def test_health_goes_on_by_itself_in_a_running_service(settings_with: Callable[..., Settings]) -> None:
    settings = settings_with({**QUICK, "JOURNAL_INTERVAL": "50"})
    with running_service(settings) as service:
        service.append(drafts(3))
        wait_until(lambda: service.journal.status()["lastSequence"] == 3, "the journal does not begin")
        unmount(settings)
        wait_until(lambda: codes(service) == ["backups_changed"], "the change is not noticed")
        mount_again(settings)
        service.append(drafts(1, "later"))
        wait_until(lambda: service.journal.status()["lastSequence"] == 4, "the journal does not go on")
        assert codes(service) == []


def test_a_folder_that_the_system_does_not_show_for_a_moment_is_not_gone(
    service: StoreService, quick: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = FailingCalls(quick.backup_dir.parent, tmp_path)
    for name, value in quick.to_environment().items():
        monkeypatch.setenv(name, value)
    assert failing.refusal_of(check_folder, first=f"lstat64 of {quick.backup_dir}") == "backups_unavailable"
