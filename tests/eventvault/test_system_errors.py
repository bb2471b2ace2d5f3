"""A full disk and a held lock are recognised by the system's error, never by a word in a path."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import plyvel
import pytest

from eventvault import system_errors
from eventvault.damage import advice, as_answer, is_damage
from eventvault.errors import BackupsUnavailable, DatabaseDamaged, DiskFailed, EventVaultError, NoSpace, TooBusy
from eventvault.files import matching
from eventvault.system_errors import (
    is_disk_full,
    is_lock_refused,
    lock_holder,
    name_of,
    reason_of,
    reporting_no_space,
    text_of,
)
from tests.eventvault.leveldb_errors import MISLEADING_PATH, OTHER, from_leveldb, held

FULL = [errno.ENOSPC, errno.EDQUOT, errno.EFBIG]


@pytest.mark.parametrize("number", FULL)
def test_a_full_disk_is_told_whatever_its_path_is(number: int) -> None:
    assert is_disk_full(from_leveldb(number))
    assert is_disk_full(OSError(number, os.strerror(number), MISLEADING_PATH))


@pytest.mark.parametrize("number", OTHER)
def test_no_word_of_a_path_makes_another_error_a_full_disk_or_a_held_lock(number: int) -> None:
    for error in (from_leveldb(number), OSError(number, os.strerror(number), MISLEADING_PATH)):
        assert not is_disk_full(error)
        assert not is_lock_refused(error)


BUSY = [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN]
FAILED = [errno.EIO, errno.EROFS, errno.ESTALE, errno.EACCES, errno.EINTR, errno.ENOENT, errno.EPERM, errno.ENXIO]


@pytest.mark.parametrize(
    ("kind", "number"),
    [*((NoSpace, n) for n in FULL), *((TooBusy, n) for n in BUSY), *((DiskFailed, n) for n in FAILED)],
)
def test_each_number_has_its_answer_and_none_is_damage(kind: type[Exception], number: int) -> None:
    for error in (from_leveldb(number), OSError(number, os.strerror(number), MISLEADING_PATH)):
        answer = as_answer("opening it", error)
        assert type(answer) is kind
        assert str(answer).startswith("opening it failed: ")
        assert os.strerror(number) in str(answer)
        assert answer.hint
        assert not is_damage(error)


def test_damage_is_told_by_the_class_of_the_error() -> None:
    assert is_damage(plyvel.CorruptionError(b"Corruption: Input/output error"))
    assert is_damage(DatabaseDamaged("x"))
    assert is_damage(from_leveldb(errno.EINVAL, "/db/000005.ldb"))
    assert not is_damage(from_leveldb(errno.EINVAL, "/db/Corruption: block checksum mismatch/LOCK"))
    assert not is_damage(MemoryError())
    assert isinstance(as_answer("x", MemoryError()), TooBusy)


def test_the_text_of_an_error_is_readable_whatever_gave_it() -> None:
    assert text_of(from_leveldb(errno.EIO, "/süd/1.log")) == "IO error: /süd/1.log: Input/output error"
    assert text_of(OSError(errno.EIO, "Input/output error", "x")) == "[Errno 5] Input/output error: 'x'"
    assert text_of(ValueError()) == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_says_what_was_being_done() -> None:
    with (
        pytest.raises(NoSpace, match="writing the journal failed: No space left") as caught,
        reporting_no_space("writing the journal"),
        Path("/dev/full").open("wb", buffering=0) as full,
    ):
        full.write(b"x")
    assert caught.value.hint


def test_a_full_disk_of_leveldb_says_what_was_being_done() -> None:
    with pytest.raises(NoSpace, match=f"importing failed: IO error: {MISLEADING_PATH}: Disk quota"):  # noqa: SIM117
        with reporting_no_space("importing"):
            raise from_leveldb(errno.EDQUOT)


def test_another_error_is_not_taken_for_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), reporting_no_space("reading"):
        (tmp_path / "missing").read_bytes()


@pytest.mark.slow
def test_a_lock_that_another_process_holds_is_refused_and_its_holder_is_named(tmp_path: Path) -> None:
    plyvel.DB(str(tmp_path / "db"), create_if_missing=True).close()
    with held(tmp_path / "db") as process:
        with pytest.raises(plyvel.IOError) as raised:
            plyvel.DB(str(tmp_path / "db"))
        assert is_lock_refused(raised.value)
        assert lock_holder(tmp_path / "db" / "LOCK") == process
    assert lock_holder(tmp_path / "db" / "LOCK") is None
    with closing(plyvel.DB(str(tmp_path / "db"))):
        pass


def test_a_lock_of_this_process_is_named_and_not_lost_by_asking(tmp_path: Path) -> None:
    with closing(plyvel.DB(str(tmp_path / "db"), create_if_missing=True)):
        assert lock_holder(tmp_path / "db" / "LOCK") == os.getpid()
        program = "import plyvel, sys; plyvel.DB(sys.argv[1])"
        command = [sys.executable, "-c", program, str(tmp_path / "db")]
        other = subprocess.run(command, capture_output=True, text=True, check=False)
    assert os.strerror(errno.EAGAIN) in other.stderr


def test_a_lock_that_nobody_holds_has_no_holder(tmp_path: Path) -> None:
    assert lock_holder(tmp_path / "missing") is None
    (tmp_path / "LOCK").write_bytes(b"12345\n")
    assert lock_holder(tmp_path / "LOCK") is None


def test_a_holder_in_another_container_has_no_id_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "LOCK").touch()
    monkeypatch.setattr(system_errors.fcntl, "fcntl", lambda handle, command, asked: asked)
    assert lock_holder(tmp_path / "LOCK") == 0


@pytest.mark.parametrize(
    ("number", "word"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "quota"),
        (errno.EMFILE, "descriptors"),
        (errno.ENOMEM, "memory"),
        (errno.EACCES, "user of the service"),
        (errno.EPERM, "user of the service"),
        (errno.EROFS, "so that it can be written"),
        (errno.ENOENT, "exists"),
        (errno.ENOTDIR, "exists"),
        (errno.EIO, "check that disk"),
        (errno.ESTALE, "check that disk"),
    ],
)
def test_the_advice_fits_the_number(number: int, word: str) -> None:
    for error in (from_leveldb(number), OSError(number, os.strerror(number), MISLEADING_PATH)):
        assert word in advice(error)


@pytest.mark.parametrize("other", [DiskFailed, BackupsUnavailable])
def test_a_full_disk_and_a_lack_of_descriptors_have_one_answer_wherever_they_are_met(
    other: type[EventVaultError],
) -> None:
    for number in (*FULL, *BUSY, *FAILED):
        answer = as_answer("x", OSError(number, "x"), other)
        assert type(answer) is (NoSpace if number in FULL else TooBusy if number in BUSY else other)


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/data/storage/.restoring-0a1b2c3d/event_registry_db/000005.ldb", "/data/storage"),
        ("/data/storage/.checkpoint-0a1b2c3d", "/data/storage"),
        ("/data/backups/.backup_1.tar.gz.0a1b2c3d.tmp", "/data/backups"),
        ("/data/backups/.upload.0a1b2c3d.tmp", "/data/backups"),
        ("/data/.hidden/event_registry_db/LOCK", "/data/.hidden/event_registry_db/LOCK"),
        ("/data/a.tmp/b", "/data/a.tmp/b"),
    ],
)
def test_no_error_names_a_temporary_file(path: str, shown: str) -> None:
    for error in (from_leveldb(errno.EIO, path), OSError(errno.EIO, "x", path)):
        assert shown in reason_of(error)
        assert path == shown or path not in reason_of(error)
    assert (name_of(Path(path)) == path) == (path == shown)
    assert shown in name_of(Path(path))


def test_a_folder_that_cannot_be_listed_is_no_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.log", "b.log", "c.ldb", ".d.log"):
        (tmp_path / name).touch()
    assert [path.name for path in matching(tmp_path, "*.log")] == [".d.log", "a.log", "b.log"]
    assert matching(tmp_path / "missing") == []
    assert matching(tmp_path / "a.log") == []
    for number in (errno.EACCES, errno.EIO, errno.EMFILE):
        monkeypatch.setattr(os, "listdir", lambda _, number=number: raise_error(number))
        with pytest.raises(OSError, match=os.strerror(number)):
            matching(tmp_path)


def raise_error(number: int) -> None:
    raise OSError(number, os.strerror(number))
