"""The key of an installation: two copies, and never a new key over an old one."""

from __future__ import annotations

import errno
import importlib
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from eventvault import data_folders, small_files
from eventvault.backups.installation import ensure_installation, installation_of
from eventvault.backups.installation_key import ensure_key, renew_key
from eventvault.errors import BackupsChanged, BackupsUnavailable, TooBusy
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests.restoring import drafts, prefixes
from tests.stores import running_service

FOLDERS = ["storage_dir", "backup_dir"]
AUTO_RECOVER = {"AUTO_RECOVER": "true"}


def key_file(settings: Settings, folder: str) -> Path:
    path: Path = getattr(settings, folder) / data_folders.INSTALLATION_KEY
    return path


def key_files(settings: Settings) -> list[Path]:
    return [key_file(settings, folder) for folder in FOLDERS]


def problem_codes(service: StoreService) -> list[str]:
    return [problem["code"] for problem in service.status()["problems"]]


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def elsewhere(settings_with: Callable[..., Settings], tmp_path: Path) -> Settings:
    """The settings of another installation, which has two events and a backup."""
    names = {name: str(tmp_path / "elsewhere" / name) for name in ("STORAGE_DIR", "BACKUP_DIR", "RESTORE_DIR")}
    settings = settings_with(names)
    with running_service(settings) as service:
        service.append(drafts(2, "elsewhere"))
        service.create_backup()
    return settings


@pytest.mark.slow
def test_a_start_makes_one_key_of_32_bytes_in_both_folders_for_the_owner_alone(settings: Settings) -> None:
    with running_service(settings):
        pass
    key = ensure_key(settings)
    assert len(key) == 32
    for path in key_files(settings):
        assert path.stat().st_mode & 0o777 == 0o600
        assert key.hex() in path.read_text()


@pytest.mark.slow
def test_two_installations_have_different_keys(settings: Settings, elsewhere: Settings) -> None:
    assert ensure_key(settings) != ensure_key(elsewhere)


@pytest.mark.parametrize("lost", FOLDERS)
def test_a_key_that_is_gone_from_one_folder_is_copied_from_the_other(settings: Settings, lost: str) -> None:
    key = ensure_key(settings)
    key_file(settings, lost).unlink()
    assert ensure_key(settings) == key
    assert key.hex() in key_file(settings, lost).read_text()


@pytest.mark.slow
def test_an_installation_of_0_1_0_gets_its_key_with_its_next_backup(settings: Settings) -> None:
    with running_service(settings) as service:
        service.append(drafts(1))
        for path in key_files(settings):
            path.unlink()
        service.create_backup()
        assert all(path.exists() for path in key_files(settings))


@pytest.mark.slow
@pytest.mark.parametrize("number", [errno.EACCES, errno.EMFILE, errno.EIO, errno.ESTALE, errno.ENOMEM])
@pytest.mark.parametrize("folder", FOLDERS)
def test_a_key_that_cannot_be_read_is_neither_replaced_nor_copied(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, folder: str, number: int
) -> None:
    with running_service(settings) as service:
        service.append(drafts(1))
        contents = [path.read_bytes() for path in key_files(settings)]
        read = small_files.read_bytes

        def fail(path: Path) -> bytes:
            if path == key_file(settings, folder):
                raise OSError(number, os.strerror(number), str(path))
            return read(path)

        with monkeypatch.context() as patch:
            patch.setattr(small_files, "read_bytes", fail)
            kind = TooBusy if number in (errno.EMFILE, errno.ENOMEM) else BackupsUnavailable
            with pytest.raises(kind, match=os.strerror(number)):
                service.create_backup()
            assert service.list_backups() == []
            assert kind.code in problem_codes(service)
        assert [path.read_bytes() for path in key_files(settings)] == contents
        service.create_backup()
        assert problem_codes(service) == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_key_is_made_while_one_of_the_two_may_exist(settings: Settings, folder: str) -> None:
    key_file(settings, folder).mkdir(parents=True)
    with pytest.raises(BackupsUnavailable, match="Is a directory"):
        ensure_key(settings)
    assert not any(path.is_file() for path in key_files(settings))
    key_file(settings, folder).rmdir()
    ensure_key(settings)


def test_no_key_is_made_while_the_backup_folder_is_no_folder(settings: Settings) -> None:
    settings.backup_dir.parent.mkdir(parents=True, exist_ok=True)
    settings.backup_dir.write_text("in the way")
    installation_of(settings)
    assert not key_file(settings, "storage_dir").exists()


@pytest.mark.slow
def test_a_damaged_copy_beside_the_archives_is_replaced_by_the_key(settings: Settings) -> None:
    with running_service(settings) as service:
        service.append(drafts(1))
        key = ensure_key(settings)
        path = key_file(settings, "backup_dir")
        path.write_bytes(path.read_bytes().replace(b"sha256:", b"sha256;"))
        service.create_backup()
        assert ensure_key(settings) == key
        assert problem_codes(service) == ["installation_damaged"]
        path.with_name(".installation.key.damaged").unlink()
        assert problem_codes(service) == []


@pytest.mark.parametrize("others", ["whole", "missing", "damaged"])
def test_a_damaged_key_beside_the_database_is_refused_until_somebody_moves_it(settings: Settings, others: str) -> None:
    key = ensure_key(settings)
    path, other = key_files(settings)
    path.write_bytes(path.read_bytes()[:-5])
    if others == "missing":
        other.unlink()
    elif others == "damaged":
        other.write_bytes(b"damaged")
    before = path.read_bytes()

    with pytest.raises(BackupsUnavailable, match="damaged"):
        ensure_key(settings)
    assert path.read_bytes() == before
    if others == "whole":
        path.rename(path.with_name("moved"))
        assert ensure_key(settings) == key


@pytest.mark.slow
def test_backups_of_another_installation_copied_over_ours_stop_new_backups_and_change_nothing(
    settings: Settings, elsewhere: Settings
) -> None:
    with running_service(settings) as service:
        service.append(drafts(3))
        service.create_backup("ours")
        identity = service.catalogue.installation
    shutil.copytree(elsewhere.backup_dir, settings.backup_dir, dirs_exist_ok=True)
    before = files_of(settings.backup_dir)
    key = key_file(settings, "storage_dir").read_bytes()

    with running_service(settings) as service:
        assert service.catalogue.installation == identity
        assert problem_codes(service).count("backups_changed") == 1
        service.append(drafts(1, "later"))
        with pytest.raises(BackupsChanged, match="another installation") as caught:
            service.create_backup()
        assert ".installation" in caught.value.hint
        with pytest.raises(BackupsChanged):
            service.backups.create_if_changed()
    changed = {name for name, content in files_of(settings.backup_dir).items() if before.get(name) != content}
    assert {Path(name).name for name in changed} <= {data_folders.CATALOGUE}
    assert key_file(settings, "storage_dir").read_bytes() == key

    for file in settings.backup_dir.glob(".installation*"):
        file.unlink()
    with running_service(settings) as service:
        assert service.catalogue.installation == identity
        assert "backups_changed" not in problem_codes(service)
        service.create_backup()
    assert [path.read_bytes() for path in key_files(settings)] == [key, key]


@pytest.mark.slow
@pytest.mark.parametrize("with_key", [True, False], ids=["", "from 0.1.0"])
def test_backups_of_another_installation_are_not_taken_for_ours_if_only_they_have_a_key(
    settings: Settings, elsewhere: Settings, with_key: bool
) -> None:
    with running_service(settings) as service:
        service.append(drafts(3))
        made = service.create_backup("ours").backup
        identity = service.catalogue.installation
    for path in key_files(settings):
        path.unlink()
    if not with_key:
        (settings.storage_dir / data_folders.CHECKED_INSTALLATION).unlink()
    shutil.copytree(elsewhere.backup_dir, settings.backup_dir, dirs_exist_ok=True)
    before = files_of(settings.backup_dir)

    with running_service(settings) as service:
        assert service.catalogue.installation == identity
        assert problem_codes(service).count("backups_changed") == 1
        with pytest.raises(BackupsChanged):
            service.create_backup()
        assert [entry.name for entry in service.list_backups() if entry.origin_proven] == []
        assert made.name in [entry.name for entry in service.list_backups()]
    changed = {name for name, content in files_of(settings.backup_dir).items() if before.get(name) != content}
    assert {Path(name).name for name in changed} <= {data_folders.CATALOGUE}
    assert not key_file(settings, "storage_dir").exists()

    for file in settings.backup_dir.glob(".installation*"):
        file.unlink()
    with running_service(settings) as service:
        assert problem_codes(service) == []
        service.create_backup()
    assert ensure_key(settings) != ensure_key(elsewhere)


@pytest.mark.slow
def test_a_service_that_was_set_up_anew_for_its_old_backups_yields_to_their_key(
    settings: Settings, elsewhere: Settings
) -> None:
    with running_service(settings):
        pass
    shutil.rmtree(settings.backup_dir)
    shutil.copytree(elsewhere.backup_dir, settings.backup_dir)
    with running_service(settings) as service:
        assert "backups_changed" in problem_codes(service)
    for file in settings.storage_dir.glob(".installation*"):
        file.unlink()

    with running_service(settings) as service:
        assert service.catalogue.installation == installation_of(elsewhere)
        service.append(drafts(1))
        service.create_backup()
    assert ensure_key(settings) == ensure_key(elsewhere)


@pytest.mark.slow
@pytest.mark.parametrize("all_lost", [True, False])
def test_a_lost_database_is_recovered_under_the_key_that_lies_beside_the_archives(
    settings_with: Callable[..., Settings], settings: Settings, elsewhere: Settings, all_lost: bool
) -> None:
    with running_service(settings):
        pass
    ours = ensure_key(settings)
    shutil.rmtree(settings.storage_dir if all_lost else settings.database)
    shutil.rmtree(settings.backup_dir)
    shutil.copytree(elsewhere.backup_dir, settings.backup_dir)

    with running_service(settings_with(AUTO_RECOVER)) as service:
        assert prefixes(service) == {"elsewhere": 2}
        assert problem_codes(service) == []
    assert ensure_key(settings) == ensure_key(elsewhere) != ours
    replaced = [file.read_text() for file in settings.storage_dir.glob(".installation.key.replaced*")]
    assert replaced == [] if all_lost else ours.hex() in replaced[0]


@pytest.mark.slow
def test_an_interrupted_swap_is_no_lost_database(settings: Settings, elsewhere: Settings) -> None:
    key = ensure_key(settings)
    identity = installation_of(settings)
    (settings.storage_dir / data_folders.INTENT).write_text("{}")
    shutil.copytree(elsewhere.backup_dir, settings.backup_dir, dirs_exist_ok=True)

    assert installation_of(settings) == identity
    with pytest.raises(BackupsChanged):
        ensure_installation(settings, identity)
    assert key.hex() in key_file(settings, "storage_dir").read_text()


STEPS = ["eventvault.small_files.write", "eventvault.backups.installation_key.remove_durably"]


@pytest.mark.parametrize(("step", "fails_at"), [(STEPS[0], 1), (STEPS[1], 1), (STEPS[0], 2), (STEPS[0], 3)])
def test_a_renewal_that_ends_in_between_leaves_one_key(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, step: str, fails_at: int
) -> None:
    old = ensure_key(settings)
    module, name = step.rsplit(".", 1)
    real = getattr(importlib.import_module(module), name)
    calls = 0

    def fail(*arguments: Any, **more: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == fails_at:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(*arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(step, fail)
        with pytest.raises(BackupsUnavailable):
            renew_key(settings)
    key = ensure_key(settings)
    assert (key == old) is (fails_at < 3)
    assert all(key.hex() in path.read_text() for path in key_files(settings))


@pytest.mark.slow
def test_no_key_is_renewed_while_the_folders_have_different_ones(settings: Settings, elsewhere: Settings) -> None:
    ensure_key(settings)
    shutil.copy(key_file(elsewhere, "backup_dir"), key_file(settings, "backup_dir"))
    before = [path.read_bytes() for path in key_files(settings)]
    with pytest.raises(BackupsChanged):
        renew_key(settings)
    assert [path.read_bytes() for path in key_files(settings)] == before


def test_many_threads_make_one_key(settings: Settings) -> None:
    with ThreadPoolExecutor(16) as threads:
        keys = set(threads.map(lambda _number: ensure_key(settings), range(64)))
    assert keys == {ensure_key(settings)}
