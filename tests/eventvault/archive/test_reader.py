import fcntl
import hashlib
import os
import random
import threading
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventvault.archive import layout, manifest, reader, unpacking, writer
from eventvault.archive.layout import Closing, IndexEntry
from eventvault.errors import (
    ArchiveAlien,
    ArchiveDamaged,
    ArchiveError,
    ArchiveIncomplete,
    ArchiveTooNew,
    ArchiveUnsafe,
    BackupNotFound,
    NoSpace,
)

mutations = settings(
    max_examples=150,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def assert_refused(path: Path, target: Path, error: type[ArchiveError] = ArchiveDamaged, match: str = ".") -> None:
    with pytest.raises(error, match=match):
        reader.verify(path)
    with pytest.raises(error, match=match):
        reader.unpack(path, target)
    assert not target.exists()


def test_an_archive_comes_back_as_it_was(own, about, database_files, tmp_path):
    assert reader.kind(own) == "own"
    found = reader.unpack(own, tmp_path / "deep/target").manifest
    assert content_of(tmp_path / "deep/target/event_registry_db") == database_files
    assert found == reader.verify(own).manifest == reader.read_manifest(own)
    assert msgspec.structs.replace(found, files=[]) == about
    assert [path.name for path in (tmp_path / "deep/target").iterdir()] == ["event_registry_db"]


@pytest.mark.slow
def test_a_flipped_bit_in_any_byte_is_found(own_bytes, tmp_path):
    path = tmp_path / "flipped.tar.gz"
    chance = random.Random(len(own_bytes))
    for place in range(len(own_bytes)):
        damaged = bytearray(own_bytes)
        damaged[place] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
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
def test_every_truncation_is_an_incomplete_archive(own_bytes, tmp_path):
    path = tmp_path / "cut.tar.gz"
    for size in range(len(own_bytes)):
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


def seal(path: Path, forgery, **changes) -> Path:
    path.write_bytes(forgery.sealed(**changes))
    return path


def test_a_forgery_without_a_change_is_an_archive(forgery, own_bytes, tmp_path):
    path = seal(tmp_path / "same.tar.gz", forgery)
    reader.verify(path)


def test_files_in_another_order_are_refused(forgery, tmp_path):
    names = list(forgery.parts)
    names[1], names[2] = names[2], names[1]
    forgery.parts = {name: forgery.parts[name] for name in names}
    assert_refused(seal(tmp_path / "a.tar.gz", forgery), tmp_path / "target", match="should not be here")


def test_a_missing_file_is_refused(forgery, tmp_path):
    del forgery.parts["event_registry_db/000005.ldb"]
    assert_refused(seal(tmp_path / "a.tar.gz", forgery), tmp_path / "target", match=r"manifest\.json describes")


def test_a_file_with_other_content_is_refused(forgery, tmp_path):
    name = "event_registry_db/CURRENT"
    forgery.parts[name] = forgery.entry(name, b"MANIFEST-000005\n")
    assert_refused(seal(tmp_path / "a.tar.gz", forgery), tmp_path / "target", match="CURRENT is not the file")


@pytest.mark.parametrize("name", ["event_registry_db/../../evil", "event_registry_db/.hidden", "event_registry_db/a/b"])
def test_a_name_that_the_writer_never_writes_is_refused(name, forgery, tmp_path):
    parts = dict(forgery.parts)
    forgery.parts = {"event_registry_db/": parts.pop("event_registry_db/"), name: forgery.entry(name, b"x"), **parts}
    assert_refused(
        seal(tmp_path / "a.tar.gz", forgery), tmp_path / "target", ArchiveError, "should not be here|larger than"
    )
    assert not (tmp_path.parent / "evil").exists()


@pytest.mark.parametrize("size", [0, 1, 699, 701, 513, 5 * 2**20, 2**40])
def test_a_member_that_lies_about_its_size_is_refused(size, forgery, tmp_path, database_files):
    name = "event_registry_db/000005.ldb"
    forgery.parts[name] = forgery.entry(name, database_files["000005.ldb"], size=size)
    assert_refused(seal(tmp_path / "a.tar.gz", forgery), tmp_path / "target", ArchiveError)


def test_a_bomb_is_not_unpacked_beyond_what_it_declares(forgery, tmp_path):
    name = "event_registry_db/000005.ldb"
    forgery.parts[name] = forgery.entry(name, b"x", size=1) + layout.member(bytes(2**20))
    assert_refused(seal(tmp_path / "a.tar.gz", forgery), tmp_path / "target")


@pytest.mark.parametrize("place", [0, 5, 10**6, 2**63])
def test_a_closing_member_that_points_elsewhere_is_refused(place, forgery, tmp_path):
    path = seal(tmp_path / "a.tar.gz", forgery, place=place)
    assert_refused(path, tmp_path / "target")
    with pytest.raises(ArchiveDamaged):
        reader.read_manifest(path)


FORGED = {
    "points outside": lambda entry: msgspec.structs.replace(entry, header=10**12),
    "points at another": lambda entry: msgspec.structs.replace(entry, header=0),
    "lies about size": lambda entry: msgspec.structs.replace(entry, size=entry.size + 1),
    "has other members": lambda entry: msgspec.structs.replace(entry, data=((1, 2),)),
    "renames": lambda entry: IndexEntry("other", entry.size, entry.header, entry.data),
}


@pytest.mark.parametrize("how", FORGED)
def test_a_forged_index_is_refused(how, forgery, tmp_path):
    def forge(index: layout.Index) -> layout.Index:
        *others, last = index.entries
        return msgspec.structs.replace(index, entries=(*others, FORGED[how](last)))

    assert_refused(seal(tmp_path / "a.tar.gz", forgery, index=forge), tmp_path / "target")


def test_an_empty_index_is_refused(forgery, tmp_path):
    path = seal(tmp_path / "a.tar.gz", forgery, index=lambda index: msgspec.structs.replace(index, entries=()))
    assert_refused(path, tmp_path / "target")


@pytest.mark.parametrize(
    "text", [b"", b"{}", b"null", b"[" * 100_000, b'{"formatVersion":1,"storeId":"x"}', b"\xff\xfe", b"\0" * 600]
)
def test_a_manifest_that_is_none_is_refused(text, forgery, tmp_path):
    forgery.parts["manifest.json"] = forgery.entry("manifest.json", text)
    path = seal(tmp_path / "a.tar.gz", forgery)
    assert_refused(path, tmp_path / "target")
    with pytest.raises(ArchiveDamaged):
        reader.read_manifest(path)


@pytest.mark.parametrize("created", ["yesterday", "1969-12-31T23:59:59.000Z", "2026-01-31T12:34:57", ""])
def test_a_manifest_without_an_instant_is_refused(created, forgery, tmp_path, own):
    text = manifest.encode(msgspec.structs.replace(reader.read_manifest(own), created=created))
    forgery.parts["manifest.json"] = forgery.entry("manifest.json", text)
    assert_refused(seal(tmp_path / "a.tar.gz", forgery), tmp_path / "target", match="not valid")


@pytest.mark.parametrize("wrong", [{"at": 10**17 * 3}, {"at": -1}, {"fork_sequence": -1}])
def test_a_generation_that_no_timeline_could_show_is_refused(wrong, forgery, tmp_path, own):
    good = reader.read_manifest(own)
    text = manifest.encode(
        msgspec.structs.replace(good, generations=[msgspec.structs.replace(each, **wrong) for each in good.generations])
    )
    forgery.parts["manifest.json"] = forgery.entry("manifest.json", text)
    assert_refused(seal(tmp_path / "a.tar.gz", forgery), tmp_path / "target", match="not valid")


LONG = {
    "kafka": b'"kafka": {"x": [' + b"[]," * 400_000 + b"0]}",
    "kafka given twice": b'"kafka": {"x": [' + b"[]," * 400_000 + b'0]}, "kafka": {"y": "' + b"y" * 2**20 + b'"}',
    "label": b'"label": "' + b"x" * 2**23 + b'"',
}


@pytest.mark.parametrize("what", LONG)
def test_a_member_of_the_manifest_that_would_fill_the_memory_is_not_decoded(what, forgery, tmp_path, own):
    text = manifest.encode(reader.read_manifest(own)).rstrip(b"}\n") + b"," + LONG[what] + b"}"
    forgery.parts["manifest.json"] = forgery.entry("manifest.json", text)
    with pytest.raises(ArchiveDamaged, match="at most"):
        reader.verify(seal(tmp_path / "a.tar.gz", forgery))


def test_an_index_that_would_fill_the_memory_is_not_decoded(forgery, tmp_path):
    def forge(index: layout.Index) -> layout.Index:
        *others, last = index.entries
        return msgspec.structs.replace(index, entries=(*others, IndexEntry("x", 0, last.header, ((0, 0),) * 600_000)))

    assert_refused(seal(tmp_path / "a.tar.gz", forgery, index=forge), tmp_path / "target", match="more members")


def test_unknown_members_of_the_manifest_are_tolerated(staging, about, tmp_path, monkeypatch):
    def with_more(complete: manifest.Manifest) -> bytes:
        return msgspec.json.encode({**msgspec.to_builtins(complete), "colour": {"of": ["the", "sky"]}})

    monkeypatch.setattr(manifest, "encode", with_more)
    written = writer.write_archive(tmp_path / "a.tar.gz", staging, about)
    assert (
        reader.verify(tmp_path / "a.tar.gz").manifest == written.manifest == reader.read_manifest(tmp_path / "a.tar.gz")
    )


def test_a_manifest_of_a_later_format_is_too_new(staging, about, tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "encode", lambda _: b'{"formatVersion": 2, "storeId": "x", "files": "elsewhere"}')
    writer.write_archive(tmp_path / "a.tar.gz", staging, about)
    assert_refused(tmp_path / "a.tar.gz", tmp_path / "target", ArchiveTooNew, "version 2")


def test_marks_of_a_later_format_are_too_new(own_bytes, tmp_path):
    opening, path = layout.opening_header(), tmp_path / "a.tar.gz"
    body = layout.opening_header(2) + own_bytes[len(opening) : -layout.CLOSING_SIZE]
    path.write_bytes(body + layout.closing_member(Closing(2, 0, bytes(32))))
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


def test_an_archive_that_declares_more_than_it_can_hold_is_unsafe(forgery, tmp_path, own):
    about = reader.read_manifest(own)
    huge = [msgspec.structs.replace(file, size=2**40) for file in about.files]
    text = manifest.encode(msgspec.structs.replace(about, files=huge))
    forgery.parts["manifest.json"] = forgery.entry("manifest.json", text)
    with pytest.raises(ArchiveUnsafe):
        reader.unpack(seal(tmp_path / "a.tar.gz", forgery), tmp_path / "target")


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


places = st.integers(0, 10_000)
changes = st.lists(
    st.one_of(
        st.tuples(st.just("flip"), places, st.integers(0, 7)),
        st.tuples(st.just("cut"), places, st.integers(1, 600)),
        st.tuples(st.just("insert"), places, st.binary(min_size=1, max_size=40)),
        st.tuples(st.just("repeat"), places, st.integers(1, 600)),
        st.tuples(st.just("move"), places, st.integers(1, 600)),
    ),
    min_size=1,
    max_size=4,
)


def changed(content: bytes, change: tuple) -> bytes:
    how, place, what = change
    place %= len(content)
    head, tail = content[:place], content[place:]
    if how == "flip":
        return head + bytes([tail[0] ^ 1 << what]) + tail[1:]
    if how == "insert":
        return head + what + tail
    if how == "cut":
        return (head + tail[what:]) or b"\0"
    return head + tail[:what] * 2 + tail[what:] if how == "repeat" else tail[:what] + head + tail[what:]


@mutations
@given(several=changes, seal_again=st.booleans())
def test_a_mutated_archive_never_gives_other_files(several, seal_again, own_bytes, database_files, tmp_path_factory):
    body, closing = own_bytes[: -layout.CLOSING_SIZE], own_bytes[-layout.CLOSING_SIZE :]
    mutated = body if seal_again else own_bytes
    for change in several:
        mutated = changed(mutated, change)
    if seal_again:
        offset = layout.parse_closing(closing).index_offset
        mutated += layout.closing_member(Closing(1, offset, hashlib.sha256(mutated).digest()))
    folder = tmp_path_factory.mktemp("mutated")
    path = folder / "a.tar.gz"
    path.write_bytes(mutated)
    try:
        reader.unpack(path, folder / "target")
    except ArchiveError:
        assert not (folder / "target").exists()
        if mutated != own_bytes:
            with pytest.raises(ArchiveError):
                reader.verify(path)
    else:
        assert content_of(folder / "target/event_registry_db") == database_files
        assert seal_again or mutated == own_bytes
