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
from eventvault.damage import as_answer, is_damage
from eventvault.errors import DatabaseDamaged, DiskFailed, NoSpace, TooBusy
from eventvault.system_errors import is_disk_full, is_lock_refused, lock_holder, reporting_no_space, text_of
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
