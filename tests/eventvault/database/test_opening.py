"""Opening the event database: its errors follow from the system's error, never from a word in the path."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import plyvel
import pytest

from eventvault import system_errors
from eventvault.database import opening
from eventvault.database.bus import EventBus
from eventvault.database.commit import write_error
from eventvault.database.opening import open_checked, process_name
from eventvault.database.registry import create_database, open_leveldb
from eventvault.errors import DatabaseDamaged, DatabaseLocked, DiskFailed, NoSpace, TooBusy, WriteFailed
from tests.eventvault.leveldb_errors import OTHER, from_leveldb, held
from tests.failing_calls import FailingCalls
from tests.service import PROJECT

OPEN = """
import sys
from pathlib import Path
from eventvault.database.opening import open_checked
open_checked(Path(sys.argv[1])).close()
"""


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """In a folder whose name has words of error messages."""
    folder = tmp_path / "block-storage with a quota" / "event_registry_db"
    create_database(folder)
    return folder


@pytest.mark.slow
def test_a_database_that_another_process_holds_is_waited_for_and_its_holder_named(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "LOCK_TIMEOUT_SECONDS", 0.2)
    with held(database) as process, pytest.raises(DatabaseLocked, match=f"the process {process};") as raised:
        open_checked(database)
    assert raised.value.details["holder"] == process
    with closing(open_checked(database)):
        pass


@pytest.mark.slow
def test_an_error_of_the_look_for_a_database_does_not_make_it_a_missing_one(database: Path, tmp_path: Path) -> None:
    failing = FailingCalls(database.parent, tmp_path)
    failing.arm(first=f"access of {database / 'CURRENT'}")
    command = [sys.executable, "-c", OPEN, str(database)]
    done = subprocess.run(
        failing.command(command), cwd=PROJECT, capture_output=True, text=True, timeout=90, check=False
    )
    calls, _ = failing.disarm()
    assert calls, "no call failed"
    assert done.returncode == 0, done.stderr


def test_what_the_system_says_of_a_database_that_cannot_be_seen_is_told(database: Path) -> None:
    (database / "CURRENT").unlink()
    with pytest.raises(plyvel.Error, match="does not exist"):
        open_leveldb(database)
    (database / "CURRENT").symlink_to("CURRENT")
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        open_leveldb(database)


def test_a_holder_in_another_container_is_named_so(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "lock_holder", lambda _: 0)
    with pytest.raises(DatabaseLocked, match=f"held by {process_name(0)}") as raised:
        opening.check_free(database)
    assert raised.value.details["holder"] is None


def test_a_database_that_this_process_has_open_is_not_free(database: Path) -> None:
    with closing(open_checked(database)), pytest.raises(DatabaseLocked, match=f"the process {os.getpid()};"):
        opening.check_free(database)
    opening.check_free(database)


def test_a_process_that_could_not_unlock_a_database_ends(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LevelDB counts it as open in this process, as after an unlock that failed."""
    ended: list[str] = []
    monkeypatch.setattr(opening, "_end_process", ended.append)
    with closing(open_checked(database)), pytest.raises(plyvel.IOError, match="already held by process"):
        open_checked(database)
    assert ended == [f"{database} was closed, but could not be unlocked"]
    with closing(open_checked(database)):
        pass


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir])
@pytest.mark.parametrize("name", ["LOCK", "LOG", "LOG.old"])
def test_what_lies_in_the_place_of_a_file_that_leveldb_writes_is_quarantined(
    database: Path, name: str, make: Callable[[Path], None]
) -> None:
    (database / name).unlink(missing_ok=True)
    make(database / name)
    with closing(open_checked(database)):
        pass
    assert (database / f"{name}.damaged").exists()


@pytest.mark.parametrize("name", ["CURRENT", "MANIFEST", ".log"])
def test_a_pipe_in_the_place_of_a_file_that_leveldb_reads_is_not_waited_for(database: Path, name: str) -> None:
    path = next(path for path in database.iterdir() if name in path.name)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(OSError, match=f"{path.name} is a pipe"):
        open_checked(database)


def test_a_lock_file_that_cannot_be_opened_is_no_held_lock_and_not_waited_for(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "_WRITTEN", ())
    monkeypatch.setattr(opening, "LOCK_TIMEOUT_SECONDS", 60)
    (database / "LOCK").unlink()
    (database / "LOCK").mkdir()
    began = time.monotonic()
    with pytest.raises(plyvel.IOError, match="Is a directory"):
        open_checked(database)
    assert time.monotonic() - began < opening.LOCK_TIMEOUT_SECONDS / 2


@pytest.mark.parametrize("number", OTHER)
def test_a_disk_that_fails_at_the_lock_is_no_held_lock(
    database: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(folder: Path, **_: Any) -> Any:
        raise from_leveldb(number, str(folder / "LOCK"))

    monkeypatch.setattr(opening, "open_leveldb", failing)
    with pytest.raises(plyvel.IOError):
        open_checked(database)
    bus = EventBus(database)
    with pytest.raises((DiskFailed, TooBusy), match=f"opening .* failed: .*{os.strerror(number)}"):
        bus.init([])


def test_a_lock_file_that_cannot_be_looked_at_does_not_count_as_free(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(path: Path, *_: Any) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(system_errors.os, "open", unreadable)
    with pytest.raises(PermissionError):
        opening.check_free(database)


def test_a_folder_that_leveldb_could_list_in_part_only_is_not_damaged(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = opening.open_leveldb
    answers = [plyvel.CorruptionError(b"Corruption: 1 missing files; e.g.: 000005.ldb")]

    def failing_once(folder: Path, **options: Any) -> Any:
        if answers:
            raise answers.pop()
        return opened(folder, **options)

    monkeypatch.setattr(opening, "open_leveldb", failing_once)
    with closing(open_checked(database)):
        pass


UNREADABLE = [errno.EIO, errno.EMFILE, errno.ENOMEM, errno.ESTALE, errno.EACCES, errno.EINTR, errno.EROFS]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["CURRENT", "MANIFEST", ".log", ".ldb"])
@pytest.mark.parametrize("number", UNREADABLE)
def test_what_cannot_be_read_at_a_start_is_no_damage_and_opens_once_it_can_be(
    database: Path, number: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value in (b"in a table", b"in a log"):
        with closing(open_checked(database)) as db:
            db.put(b"key", value, sync=True)
    bus = EventBus(database)

    def failing(call: Any) -> Any:
        def called(path: Path | str, *args: Any, **more: Any) -> Any:
            if Path(path).parent == database and name in Path(path).name:
                raise OSError(number, os.strerror(number), str(path))
            return call(path, *args, **more)

        return called

    with monkeypatch.context() as failure:
        failure.setattr(Path, "stat", failing(Path.stat))
        failure.setattr(os, "open", failing(os.open))
        with pytest.raises((DiskFailed, TooBusy), match=os.strerror(number)):
            bus.init([])
    bus.init([])
    assert bus.problem is None
    bus.close()


@pytest.mark.parametrize("name", ["CURRENT", "MANIFEST"])
def test_a_file_that_is_surely_missing_is_damage(database: Path, name: str) -> None:
    next(path for path in database.iterdir() if path.name.startswith(name)).unlink()
    with pytest.raises(DatabaseDamaged, match=name):
        open_checked(database)


def test_a_full_disk_is_told_in_a_path_of_any_words(database: Path) -> None:
    assert isinstance(write_error(from_leveldb(errno.ENOSPC, str(database / "LOCK"))), NoSpace)
    assert isinstance(write_error(from_leveldb(errno.EDQUOT, str(database / "LOCK"))), NoSpace)
    assert isinstance(write_error(from_leveldb(errno.EIO, str(database / "LOCK"))), WriteFailed)
    assert isinstance(write_error(OSError(errno.EIO, "Input/output error", str(database))), WriteFailed)
