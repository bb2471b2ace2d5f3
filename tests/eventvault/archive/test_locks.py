"""A reader keeps an archive from removal, and a removal keeps readers away; across processes and within one."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from eventvault.archive import reader
from eventvault.archive.locks import exclusive_lock, shared_lock
from eventvault.archive.source import open_archive
from eventvault.errors import BackupNotFound, BackupProtected

READER = """
import pathlib, sys
from eventvault.archive import reader
from eventvault.archive.locks import shared_lock
with shared_lock(pathlib.Path(sys.argv[1])) as handle:
    print("reading", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(b"content")
    return path


def test_an_archive_that_nobody_reads_can_be_claimed_and_read_again_afterwards(archive: Path) -> None:
    with exclusive_lock(archive):
        pass
    with shared_lock(archive) as handle:
        assert os.read(handle, 100) == b"content"


def test_several_read_at_once_and_none_of_them_loses_the_archive(archive: Path) -> None:
    refused = pytest.raises(BackupProtected, match=r"a\.tar\.gz is being read")
    with shared_lock(archive), shared_lock(archive), refused, exclusive_lock(archive):
        pytest.fail("claimed while it is being read")
    with exclusive_lock(archive):
        pass


def test_the_readers_of_the_archive_package_count_too(archive: Path) -> None:
    with open_archive(archive), pytest.raises(BackupProtected), exclusive_lock(archive):
        pytest.fail("claimed while it is being read")


@pytest.mark.slow
def test_a_reader_in_another_process_counts_until_it_ends(archive: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", READER, str(archive)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"reading\n"
        with pytest.raises(BackupProtected), exclusive_lock(archive):
            pytest.fail("claimed while it is being read")
        reader.communicate()
    with exclusive_lock(archive):
        archive.unlink()
    assert reader.returncode == 0


def test_a_second_claim_is_refused(archive: Path) -> None:
    with exclusive_lock(archive), pytest.raises(BackupProtected), exclusive_lock(archive):
        pytest.fail("claimed twice")


@pytest.mark.parametrize("how", [shared_lock, exclusive_lock])
def test_a_missing_archive_is_said_so(tmp_path: Path, how: Callable[[Path], AbstractContextManager[object]]) -> None:
    with pytest.raises(BackupNotFound, match=r"there is no backup gone\.tar\.gz"), how(tmp_path / "gone.tar.gz"):
        pytest.fail("opened")


@pytest.mark.slow
def test_an_archive_that_was_replaced_before_the_lock_was_had_is_not_the_one_that_was_asked_for(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fcntl.flock

    def late(file: int, how: int) -> None:
        archive.unlink()
        archive.write_bytes(b"another")
        real(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(BackupNotFound), shared_lock(archive):
        pytest.fail("the old file was read")


def test_an_error_inside_is_passed_on(archive: Path) -> None:
    with pytest.raises(ZeroDivisionError), exclusive_lock(archive):
        raise ZeroDivisionError


def test_where_there_is_no_flock_archives_can_be_read_and_removed(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(_file: int, _how: int) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with shared_lock(archive) as handle, exclusive_lock(archive):
        assert os.read(handle, 100) == b"content"


def test_a_look_at_an_archive_never_waits_for_its_removal(own: Path) -> None:
    with exclusive_lock(own):
        assert reader.kind(own) == "own"
        assert reader.begins_as_own(own)
        assert reader.read_manifest(own).events == 2
