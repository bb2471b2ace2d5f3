import fcntl
import os
import threading
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from eventvault.archive import layout, reader, unpacking
from eventvault.archive.layout import Closing
from eventvault.errors import (
    ArchiveAlien,
    ArchiveError,
    ArchiveIncomplete,
    ArchiveTooNew,
    BackupNotFound,
    NoSpace,
)
from tests.mutations import SHORT_AND_LONG, assert_refused, one_of_each_run, seal_of


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_an_archive_comes_back_as_it_was(own, about, database_files, tmp_path):
    assert reader.kind(own) == "own"
    found = reader.unpack(own, tmp_path / "deep/target").manifest
    assert content_of(tmp_path / "deep/target/event_registry_db") == database_files
    assert found == reader.verify(own).manifest == reader.read_manifest(own)
    assert msgspec.structs.replace(found, files=[], format_version=about.format_version) == about
    assert [path.name for path in (tmp_path / "deep/target").iterdir()] == ["event_registry_db"]


@pytest.mark.slow
@pytest.mark.parametrize("run", SHORT_AND_LONG)
def test_a_flipped_bit_in_any_byte_is_found(run, own_bytes, tmp_path):
    path = tmp_path / "flipped.tar.gz"
    for place, bit in one_of_each_run(len(own_bytes), run):
        damaged = bytearray(own_bytes)
        damaged[place] ^= 1 << bit
        path.write_bytes(damaged)
        if place in seal_of(own_bytes):
            reader.verify(path)
            continue
        with pytest.raises(ArchiveError):
            reader.verify(path)


@pytest.mark.slow
def test_no_bit_of_the_two_marks_makes_it_look_foreign(own_bytes, tmp_path):
    path = tmp_path / "flipped.tar.gz"
    for place in (*range(20), *range(len(own_bytes) - layout.CLOSING_SIZE, len(own_bytes))):
        for bit in range(8):
            damaged = bytearray(own_bytes)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            with suppress(ArchiveError):
                assert reader.kind(path) == "own"
            with pytest.raises(ArchiveError):
                reader.verify(path)


@pytest.mark.slow
@pytest.mark.parametrize("run", SHORT_AND_LONG)
def test_every_truncation_is_an_incomplete_archive(run, own_bytes, tmp_path):
    path = tmp_path / "cut.tar.gz"
    for size, _ in one_of_each_run(len(own_bytes), run):
        path.write_bytes(own_bytes[:size])
        for read in (reader.kind, reader.verify, reader.read_manifest):
            with pytest.raises(ArchiveIncomplete):
                read(path)


def test_a_copy_whose_space_is_reserved_is_incomplete(own_bytes, tmp_path):
    path = tmp_path / "reserved.tar.gz"
    for size in (0, 100, len(own_bytes) - 12):
        path.write_bytes(own_bytes[:size] + bytes(len(own_bytes) - size))
        with pytest.raises(ArchiveIncomplete):
            reader.kind(path)


@pytest.mark.parametrize("more", [b"\0", b"x", bytes(10240), b"\x1f\x8b"])
def test_anything_after_the_end_is_found(more, own_bytes, tmp_path):
    path = tmp_path / "longer.tar.gz"
    path.write_bytes(own_bytes + more)
    assert_refused(path, tmp_path / "target", match="follows the end")


def test_two_archives_in_one_file_are_refused(own_bytes, tmp_path):
    path = tmp_path / "twice.tar.gz"
    path.write_bytes(own_bytes * 2)
    assert_refused(path, tmp_path / "target")


def test_marks_of_a_later_format_are_too_new(own_bytes, tmp_path):
    opening, path = layout.opening_header(), tmp_path / "a.tar.gz"
    body = layout.opening_header(3) + own_bytes[len(opening) : -layout.CLOSING_SIZE]
    path.write_bytes(body + layout.closing_member(Closing(3, 0, bytes(32))))
    assert_refused(path, tmp_path / "target", ArchiveTooNew)
    with pytest.raises(ArchiveTooNew):
        reader.kind(path)


def test_an_archive_that_does_not_fit_is_not_begun(own, tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, "free_bytes", lambda folder: 1000)
    with pytest.raises(NoSpace, match="1000 are free"):
        reader.unpack(own, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_a_disk_that_fills_up_meanwhile_is_said_and_nothing_is_left(largest_file, own, tmp_path):
    with largest_file(600), pytest.raises(NoSpace, match="target"):
        reader.unpack(own, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_a_target_that_is_there_is_left_alone(own, tmp_path):
    (tmp_path / "target").mkdir()
    (tmp_path / "target/precious").touch()
    with pytest.raises(FileExistsError):
        reader.unpack(own, tmp_path / "target")
    assert (tmp_path / "target/precious").exists()


def test_progress_is_in_bytes_of_the_archive(own):
    seen = []
    reader.verify(own, progress=lambda *step: seen.append(step))
    assert seen[-1] == (own.stat().st_size, own.stat().st_size)
    assert seen == sorted(seen)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("left", [0, 100, -100])
def test_an_archive_that_becomes_shorter_while_it_is_read_is_refused_and_never_waited_for(left, own, tmp_path):
    content = own.read_bytes()

    def shorten(_done: int, _total: int) -> None:
        os.truncate(own, left % len(content))

    for read in (reader.verify, lambda path, **more: reader.unpack(path, tmp_path / "target", **more)):
        own.write_bytes(content)
        with pytest.raises(ArchiveError):
            read(own, progress=shorten)
    assert not (tmp_path / "target").exists()


OTHERS = {
    "text": b"hello", "zip": b"PK\x03\x04" + bytes(600), "zstd": b"\x28\xb5\x2f\xfd" + bytes(600),
    "not compressed": bytes(257) + b"ustar\x0000" + bytes(800), "web page": b"<!doctype html>",
}  # fmt: skip


@pytest.mark.parametrize("what", OTHERS)
def test_what_is_no_gzip_file_is_alien(what, tmp_path):
    path = tmp_path / "a.tar.gz"
    path.write_bytes(OTHERS[what])
    with pytest.raises(ArchiveAlien, match="something else" if what == "text" else what):
        reader.kind(path)


def test_a_foreign_archive_has_no_manifest(tmp_path):
    path = tmp_path / "a.tar.gz"
    path.write_bytes(layout.member(bytes(10240)))
    assert reader.kind(path) == "foreign"
    with pytest.raises(ArchiveAlien, match="no manifest"):
        reader.read_manifest(path)


def test_no_archive_at_all_is_said(tmp_path):
    for read in (reader.kind, reader.verify, reader.read_manifest):
        with pytest.raises(BackupNotFound):
            read(tmp_path / "none.tar.gz")


def test_a_pipe_or_folder_in_place_of_an_archive_never_hangs(tmp_path):
    os.mkfifo(tmp_path / "pipe.tar.gz")
    (tmp_path / "folder.tar.gz").mkdir()
    for name in ("pipe.tar.gz", "folder.tar.gz"):
        with pytest.raises(ArchiveAlien, match="not a regular file"):
            reader.verify(tmp_path / name)


def test_an_archive_that_is_being_read_is_locked_against_removal(own):
    def try_to_lock(done: int, total: int) -> None:
        handle = os.open(own, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held.set()
        finally:
            os.close(handle)

    held = threading.Event()
    reader.verify(own, progress=try_to_lock)
    assert held.is_set()
