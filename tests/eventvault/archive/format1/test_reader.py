import hashlib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventvault.archive import layout, manifest, reader
from eventvault.archive.entries import IndexEntry
from eventvault.archive.format1.index import Index
from eventvault.archive.layout import Closing
from eventvault.errors import (
    ArchiveDamaged,
    ArchiveError,
    ArchiveTooNew,
    ArchiveUnsafe,
)
from tests import format_1
from tests.mutations import assert_refused, changed, changes, mutations


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


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
    def forge(index: Index) -> Index:
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
    def forge(index: Index) -> Index:
        *others, last = index.entries
        return msgspec.structs.replace(index, entries=(*others, IndexEntry("x", 0, last.header, ((0, 0),) * 600_000)))

    assert_refused(seal(tmp_path / "a.tar.gz", forgery, index=forge), tmp_path / "target", match="more members")


def test_unknown_members_of_the_manifest_are_tolerated(staging, about, tmp_path, monkeypatch):
    def with_more(complete: manifest.Manifest) -> bytes:
        return msgspec.json.encode({**msgspec.to_builtins(complete), "colour": {"of": ["the", "sky"]}})

    monkeypatch.setattr(manifest, "encode", with_more)
    written = format_1.write_archive(tmp_path / "a.tar.gz", staging, about)
    assert reader.verify(tmp_path / "a.tar.gz").manifest == written == reader.read_manifest(tmp_path / "a.tar.gz")


def test_a_manifest_of_a_later_format_is_too_new(staging, about, tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "encode", lambda _: b'{"formatVersion": 3, "storeId": "x", "files": "elsewhere"}')
    format_1.write_archive(tmp_path / "a.tar.gz", staging, about)
    assert_refused(tmp_path / "a.tar.gz", tmp_path / "target", ArchiveTooNew, "version 3")


def test_an_archive_that_declares_more_than_it_can_hold_is_unsafe(forgery, tmp_path, own):
    about = reader.read_manifest(own)
    huge = [msgspec.structs.replace(file, size=2**40) for file in about.files]
    text = manifest.encode(msgspec.structs.replace(about, files=huge))
    forgery.parts["manifest.json"] = forgery.entry("manifest.json", text)
    with pytest.raises(ArchiveUnsafe):
        reader.unpack(seal(tmp_path / "a.tar.gz", forgery), tmp_path / "target")


@pytest.mark.slow
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
