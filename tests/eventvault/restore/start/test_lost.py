"""The rest of a removed database is no database: it is renamed, and the database counts as lost."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from eventvault.restore.start.lost import RecoverySources, is_lost
from eventvault.settings import Settings
from tests import processes
from tests.restoring import bytes_of, drafts, ids, prefixes, problem_codes, put
from tests.stores import running_service

SettingsWith = Callable[..., Settings]
RESTS = [["000123.ldb", "000124.log"], ["LOG"], ["LOCK"], ["MANIFEST-000004"], ["EVENTVAULT", "LOCK"], ["stray.txt"]]


@pytest.fixture
def rest(settings: Settings) -> Path:
    """The folder with the rest of a removed database. It had two events, one of which only the journal has."""
    with running_service(settings) as service:
        put(service, 1, "archived")
        service.create_backup()
        put(service, 1, "journaled")
    shutil.rmtree(settings.database)
    settings.database.mkdir()
    (settings.database / "000123.log").write_bytes(b"rest")
    return settings.database


def kept(settings: Settings) -> list[dict[str, bytes]]:
    return [bytes_of(folder) for folder in settings.storage_dir.glob("previous-unread-*")]


@pytest.mark.slow
@pytest.mark.parametrize("names", RESTS)
def test_a_rest_without_current_is_recovered_and_kept(
    settings_with: SettingsWith, rest: Path, names: list[str]
) -> None:
    (rest / "000123.log").unlink()
    for name in names:
        (rest / name).write_bytes(name.encode())
    settings = settings_with({"AUTO_RECOVER": "true"})

    with running_service(settings) as service:
        assert prefixes(service) == {"archived": 1, "journaled": 1}
        assert service.status()["status"] == "ok"
        (note,) = [note for note in service.status()["lastRestore"]["notes"] if "its remaining files are in" in note]
    (folder,) = settings.storage_dir.glob("previous-unread-*")
    assert folder.name in note
    assert kept(settings) == [{name: name.encode() for name in names}]


@pytest.mark.slow
def test_a_rest_is_refused_as_missing_and_left_as_it_is_where_nothing_may_be_recovered(
    settings: Settings, rest: Path
) -> None:
    with running_service(settings) as service:
        (problem,) = service.status()["problems"]
        assert problem["code"] == "database_missing"
        assert "CURRENT" in problem["message"]
        assert bytes_of(rest) == {"000123.log": b"rest"}

        service.restore(service.list_backups()[0].name)

        assert prefixes(service) == {"archived": 1}
    assert kept(settings) == [{"000123.log": b"rest"}]


@pytest.mark.slow
def test_a_rest_makes_way_for_a_new_registry_where_that_is_asked_for(settings_with: SettingsWith, rest: Path) -> None:
    settings = settings_with({"AUTO_RECOVER": "empty"})
    with running_service(settings) as service:
        assert ids(service) == []
        assert service.append(drafts(1)).last_sequence == 1
    assert kept(settings) == [{"000123.log": b"rest"}]


@pytest.mark.slow
def test_a_rest_stays_where_there_is_nothing_to_recover_from(settings_with: SettingsWith, rest: Path) -> None:
    settings = settings_with({"AUTO_RECOVER": "true"})
    shutil.rmtree(settings.backup_dir)
    with running_service(settings) as service:
        assert problem_codes(service) == ["database_damaged"]
    assert bytes_of(rest) == {"000123.log": b"rest"}


@pytest.mark.slow
def test_a_rest_that_a_process_holds_is_waited_for(settings_with: SettingsWith, rest: Path) -> None:
    (rest / "LOCK").touch()
    program = (
        "import fcntl, sys; lock = open(sys.argv[1], 'w'); fcntl.lockf(lock, fcntl.LOCK_EX); "
        "print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, rest / "LOCK"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with running_service(settings_with({"AUTO_RECOVER": "true"})) as service:
            (problem,) = service.status()["problems"]
            assert problem["code"] == "database_locked"
            assert str(holder.pid) in problem["message"]
            holder.communicate(b"")
            processes.wait_until(lambda: service.state == "serving", "it does not go on by itself")
            assert prefixes(service) == {"archived": 1, "journaled": 1}


@pytest.mark.parametrize(
    ("left", "lost"), [(RecoverySources([], journaled=True), True), (RecoverySources([], journaled=False), False)]
)
def test_only_what_can_be_recovered_is_taken_for_lost(tmp_path: Path, left: RecoverySources, lost: bool) -> None:
    (tmp_path / "000005.ldb").touch()
    assert is_lost(tmp_path, lambda: left) is lost
    (tmp_path / "CURRENT").touch()
    assert not is_lost(tmp_path, lambda: left)


def test_a_folder_that_is_gone_or_empty_is_lost_and_a_file_is_not(tmp_path: Path) -> None:
    nothing = RecoverySources([], journaled=False)
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    assert is_lost(tmp_path / "gone", lambda: nothing)
    assert is_lost(tmp_path / "empty", lambda: nothing)
    assert not is_lost(tmp_path / "file", lambda: nothing)
