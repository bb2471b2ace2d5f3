"""An archive of format 2 is refused wherever it differs from what the writer writes, whoever made its digests right."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from eventvault.archive import layout, manifest, reader
from eventvault.archive.format2.index import HashedEntry, Span
from eventvault.archive.format2.reader import read_contents
from eventvault.archive.layout import Closing
from eventvault.archive.source import open_archive
from eventvault.errors import ArchiveDamaged, ArchiveError, ArchiveTooNew, ArchiveUnsafe
from tests import format_2
from tests.mutations import assert_refused, changed, changes, mutations, seal_of
from tests.schedule import series_seed

TABLE, SMALL = "event_registry_db/000011.ldb", "event_registry_db/000007.ldb"
OTHER = "event_registry_db/000012.ldb"

LONG = [pytest.mark.soak, pytest.mark.timeout(1800)]


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., None]:
    def check(content: bytes, error: type[ArchiveError] = ArchiveDamaged, match: str = ".") -> None:
        (tmp_path / "a.tar.gz").write_bytes(content)
        assert_refused(tmp_path / "a.tar.gz", tmp_path / "target", error, match)

    return check


def replaced(entries: list[HashedEntry], name: str, **changes: Any) -> list[HashedEntry]:
    return [msgspec.structs.replace(entry, **changes) if entry.name == name else entry for entry in entries]


def spans_of(entries: list[HashedEntry], name: str) -> tuple[Span, ...]:
    return next(entry.spans for entry in entries if entry.name == name)


def test_a_forgery_without_a_change_is_the_archive(forgery, own):
    assert forgery.build() == own.read_bytes()


def test_it_comes_back_with_the_root_as_its_digest(own, database_files, tmp_path):
    unpacked = reader.unpack(own, tmp_path / "target")
    assert content_of(tmp_path / "target/event_registry_db") == database_files
    closing = layout.parse_closing(own.read_bytes()[-layout.CLOSING_SIZE :])
    assert unpacked.digest == unpacked.checksum == f"blake3:{closing.digest.hex()}"
    assert unpacked.sha256 is None


def test_large_files_begin_at_a_multiple_of_4096(own, tmp_path):
    with open_archive(own) as archive:
        _, files = reader.peek_files(archive)
        offsets = {file.name: file.offset % 4096 for file in files}
    assert (offsets["000011.ldb"], offsets["000012.ldb"]) == (0, 0)
    assert sum(map(bool, offsets.values())) >= 3


@pytest.mark.parametrize("place", ["header", "data", "index", "manifest"])
def test_damage_is_told_with_the_byte_of_its_member(place, own, tmp_path):
    content = bytearray(own.read_bytes())
    with open_archive(own) as archive:
        contents = read_contents(archive)
        entries = {entry.name: entry for entry in contents.index}
    offset = {
        "header": entries[TABLE].header.offset,
        "data": entries[TABLE].data[0].offset,
        "index": contents.index.offset,
        "manifest": entries["manifest.json"].data[0].offset,
    }[place]
    content[offset + 40] ^= 4
    (tmp_path / "a.tar.gz").write_bytes(content)
    with pytest.raises(ArchiveDamaged, match=f"at byte {offset}: "):
        reader.verify(tmp_path / "a.tar.gz")


@pytest.mark.slow
def test_a_flipped_bit_in_the_padding_of_a_header_is_found(own, tmp_path):
    content = own.read_bytes()
    with open_archive(own) as archive:
        _, files = reader.peek_files(archive)
        end = next(file.offset for file in files if file.name == "000012.ldb")
    path = tmp_path / "a.tar.gz"
    *zeros, _ = range(end - 2000, end - 40, 97)
    for place in (*zeros, *range(end - 40, end + 40)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(ArchiveDamaged):
            reader.verify(path)


def test_spans_that_overlap_are_refused(forgery, refused):
    def overlap(entries: list[HashedEntry]) -> list[HashedEntry]:
        header, *data = spans_of(entries, SMALL)
        return replaced(entries, SMALL, spans=(header._replace(length=header.length + 1), *data))

    refused(forgery.build(index=overlap), match="a gap or an overlap")


@pytest.mark.parametrize("name", [TABLE, SMALL, "manifest.json"])
def test_bytes_that_no_span_covers_are_refused(name, forgery, refused):
    forgery.files[name].before = layout.member(b"")
    refused(forgery.build(), match="a gap or an overlap|not true")


def test_bytes_before_the_index_that_no_span_covers_are_refused(forgery, refused):
    content = forgery.build()
    offset = layout.parse_closing(content[-layout.CLOSING_SIZE :]).index_offset
    closing = Closing(2, offset + 20, content[-42:-10])
    refused(
        content[:offset] + layout.member(b"") + content[offset : -layout.CLOSING_SIZE] + layout.closing_member(closing)
    )


def test_a_wrong_root_is_refused(forgery, refused):
    refused(forgery.build(root=lambda root: blake3(root).digest()), match="the root is wrong")


@pytest.mark.slow
def test_an_index_that_names_more_than_the_file_holds_is_refused(forgery, refused):
    def beyond(entries: list[HashedEntry]) -> list[HashedEntry]:
        header, data = spans_of(entries, TABLE)
        return replaced(entries, TABLE, spans=(header, data._replace(length=data.length + 10**6)))

    def far(entries: list[HashedEntry]) -> list[HashedEntry]:
        return replaced(entries, "manifest.json", spans=(Span(10**12, 9, "0" * 64),))

    refused(forgery.build(index=beyond))
    refused(forgery.build(index=far))


def test_one_files_digest_for_the_bytes_of_another_is_refused(forgery, refused):
    forgery.files[SMALL].digest = blake3(b"other bytes").hexdigest()
    forgery.describe_files()
    refused(forgery.build(), match="000007.ldb is not the file")


@pytest.mark.parametrize("what", ["content", "member"])
def test_digests_that_are_swapped_between_two_files_are_refused(what, forgery, refused):
    first, second = forgery.files[TABLE], forgery.files[OTHER]
    if what == "content":
        first.digest, second.digest = second.digest, first.digest
        forgery.describe_files()
        refused(forgery.build(), match="is not the file")
        return

    def swap(entries: list[HashedEntry]) -> list[HashedEntry]:
        (h1, d1), (h2, d2) = spans_of(entries, TABLE), spans_of(entries, OTHER)
        entries = replaced(entries, TABLE, spans=(h1, d1._replace(blake3=d2.blake3)))
        return replaced(entries, OTHER, spans=(h2, d2._replace(blake3=d1.blake3)))

    refused(forgery.build(index=swap), match="does not have the digest")


def test_an_index_that_differs_from_the_manifest_is_refused(forgery, refused):
    forgery.files[SMALL].digest = blake3(b"other bytes").hexdigest()
    refused(forgery.build(), match="differ")


def padded(block: bytes, offset: int, fill: Callable[[int], bytes], more: int = 0) -> bytes:
    """A header member whose padding is `fill`, and longer than it should be."""
    good = layout.aligned_header_member(block, offset)
    header = layout.header_of_aligned(good)
    zeros = len(header) - len(layout.padded_header(0)) + more
    return layout.padded_header(zeros)[: len(header) - zeros + more] + fill(zeros) + good[len(header) :]


def test_padding_that_is_not_zero_is_refused(forgery, refused):
    fillings = [lambda n: bytes(n - 1) + b"\1", lambda n: b"\1" + bytes(n - 1), lambda n: b"hidden " * (n // 7)]
    for fill in fillings:
        forgery.files[OTHER].header = lambda block, offset, fill=fill: padded(block, offset, fill)
        refused(forgery.build())


def test_more_padding_than_is_needed_is_refused(forgery, refused):
    forgery.files[OTHER].header = lambda block, offset: padded(block, offset, bytes, more=4096)
    refused(forgery.build(), match="padding")


def test_a_run_at_a_crooked_place_is_refused(forgery, refused):
    forgery.files[TABLE].header = lambda block, _offset: layout.member(block)
    refused(forgery.build(), match="does not begin at a multiple of 4096")


@pytest.mark.slow
def test_an_aligned_run_without_its_mark_is_refused(forgery, refused):
    def unmarked(block: bytes, offset: int) -> bytes:
        body = layout.member(block, b"")
        zeros = -(offset + 12 + len(body)) % 4096
        header = layout.PLAIN_HEADER[:3] + b"\4" + layout.PLAIN_HEADER[4:] + zeros.to_bytes(2, "little")
        return header + bytes(zeros) + body

    forgery.files[TABLE].header = unmarked
    refused(forgery.build(), match="padding")


@pytest.mark.slow
def test_a_small_file_with_padding_is_refused(forgery, refused):
    forgery.files[SMALL].header = layout.aligned_header_member
    refused(forgery.build(), match="not as EventVault writes it")


ENDINGS = {
    "two closing members": lambda end, seal, closing: end + seal + closing + closing,
    "two seals": lambda end, seal, closing: end + seal + seal + closing,
    "no seal": lambda end, _seal, closing: end + closing,
    "the seal before the end of the tar file": lambda end, seal, closing: end[:-30] + seal + end[-30:] + closing,
    "the seal at the very end": lambda end, seal, closing: end + closing + seal,
    "a seal of another version": lambda end, _seal, closing: end + layout.seal_member(bytes(32), 3) + closing,
    "a seal of another kind": lambda end, seal, closing: end + seal.replace(b"S\2\0", b"T\2\0") + closing,
    "an empty member in place of the seal": lambda end, _seal, closing: end + layout.member(b"") + closing,
    "no end of the tar file": lambda end, seal, closing: end[: -len(layout.member(layout.END_BLOCKS))] + seal + closing,
    "no closing member": lambda end, seal, _closing: end + seal,
}  # fmt: skip


@pytest.mark.parametrize("what", ENDINGS)
def test_an_end_that_the_writer_never_writes_is_refused(what, forgery, refused):
    def ending(end: bytes, seal: bytes, closing: bytes) -> bytes:
        return ENDINGS[what](end, seal, closing)

    refused(forgery.build(ending=ending), ArchiveError)
    if what == "no end of the tar file":
        short = layout.member(layout.END_BLOCKS)

        def rooted(end: bytes, seal: bytes, closing: bytes) -> bytes:
            cut = end[: -len(short)]
            parsed = layout.parse_closing(closing)._replace(digest=blake3(cut).digest())
            return cut + seal + layout.closing_member(parsed)

        refused(forgery.build(ending=rooted), ArchiveError)


def test_a_seal_is_accepted_whatever_it_is_as_nothing_checks_it_yet(staging, about, tmp_path):
    written = format_2.write_archive(tmp_path / "a.tar.gz", staging, about, seal=lambda root: blake3(root).digest())
    content = (tmp_path / "a.tar.gz").read_bytes()
    root = bytes.fromhex(written.digest.removeprefix("blake3:"))
    packed = content[-layout.CLOSING_SIZE - layout.SEAL_SIZE : -layout.CLOSING_SIZE]
    assert layout.parse_seal(packed) == blake3(root).digest()
    assert reader.verify(tmp_path / "a.tar.gz").digest == written.digest


@pytest.mark.parametrize(("opening", "closing"), [(1, 2), (2, 1), (1, 1), (3, 2), (2, 3)])
def test_other_versions_in_the_marks_are_refused(opening, closing, forgery, refused):
    forgery.folder_opening = layout.opening_header(opening)
    refused(forgery.build(version=closing))


def test_marks_of_a_later_version_are_too_new(forgery, refused):
    forgery.folder_opening = layout.opening_header(3)
    refused(forgery.build(version=3), ArchiveTooNew, "version 3")


@pytest.mark.parametrize("place", [0, 5, 10**6, 2**63])
def test_a_closing_member_that_points_elsewhere_is_refused(place, forgery, refused, tmp_path):
    refused(forgery.build(place=place))
    with pytest.raises(ArchiveDamaged):
        reader.read_manifest(tmp_path / "a.tar.gz")


def test_the_root_is_not_computed_over_more_than_an_index_can_have(forgery, tmp_path):
    path = tmp_path / "a.tar.gz"
    content = forgery.build(place=100)
    with path.open("wb") as file:
        file.write(content[:200])
        file.seek(10**11)
        file.write(content[200:])
    with pytest.raises(ArchiveDamaged, match="lies outside"):
        reader.read_manifest(path)


def test_files_in_another_order_are_refused(forgery, refused):
    names = list(forgery.files)
    names[1], names[2] = names[2], names[1]
    forgery.files = {name: forgery.files[name] for name in names}
    forgery.describe_files()
    refused(forgery.build(), match="order")


def test_a_missing_or_an_unnamed_file_is_refused(forgery, refused):
    file = forgery.files.pop(SMALL)
    refused(forgery.build(), match="differ")
    forgery.describe_files()
    manifest_file = forgery.files.pop("manifest.json")
    forgery.files |= {"event_registry_db/zzz": file, "manifest.json": manifest_file}
    refused(forgery.build(), match="differ")


@pytest.mark.parametrize("name", ["event_registry_db/../../evil", "event_registry_db/.hidden", "event_registry_db/a/b"])
def test_a_name_that_the_writer_never_writes_is_refused(name, forgery, refused, tmp_path):
    files = dict(forgery.files)
    forgery.files = {"event_registry_db/": files.pop("event_registry_db/"), name: files.pop(SMALL), **files}
    forgery.describe_files()
    refused(forgery.build(), match="names or the order")
    assert not (tmp_path.parent / "evil").exists()


@pytest.mark.parametrize("size", [0, 1, 959, 961, 513, 5 * 2**20, 2**40])
def test_a_file_that_lies_about_its_size_is_refused(size, forgery, refused):
    forgery.files[SMALL].size = size
    forgery.describe_files()
    refused(forgery.build(), ArchiveError)


@pytest.mark.slow
def test_a_bomb_is_not_unpacked_beyond_what_it_declares(forgery, refused):
    forgery.files[SMALL].data = [layout.member(bytes(3 * 2**20))]
    refused(forgery.build(), match="gzip member")
    forgery.files[SMALL].data = [forgery.files[SMALL].data[0]] * 2
    refused(forgery.build())


@pytest.mark.slow
def test_a_file_padded_with_something_is_refused(forgery, refused):
    content = b"x" * 100
    forgery.files[SMALL].size, forgery.files[SMALL].digest = 100, blake3(content).hexdigest()
    forgery.files[SMALL].data = [layout.member(content + b"hidden".ljust(412, b"\0"))]
    forgery.describe_files()
    refused(forgery.build(), match="padding")


TEXTS = {
    "white space": lambda text: text.replace(b",", b", ", 1),
    "white space at the end": lambda text: text + b" ",
    "no newline": lambda text: text.rstrip(),
    "an unknown member": lambda text: text.replace(b'{"formatVersion":2', b'{"more":1,"formatVersion":2'),
    "an unknown member of an entry": lambda text: text.replace(b'{"name"', b'{"more":1,"name"', 1),
    "a member twice": lambda text: text.replace(b'"size":0', b'"size":1,"size":0', 1),
    "another version": lambda text: text.replace(b'"formatVersion":2', b'"formatVersion":1'),
    "digests in capitals": lambda text: text.replace(b"a", b"A"),
    "escapes": lambda text: text.replace(b"event_registry_db/", b"event_registry_db\\u002f", 1),
    "nothing": lambda _text: b"",
    "an object": lambda _text: b"{}",
    "no entries": lambda _text: b'{"formatVersion":2,"entries":[]}\n',
    "no text": lambda _text: b"\xff\xfe",
    "deep": lambda _text: b"[" * 100_000,
}


@pytest.mark.slow
@pytest.mark.parametrize("what", TEXTS)
def test_an_index_that_the_writer_never_writes_is_refused(what, forgery, refused):
    refused(forgery.build(text=TEXTS[what]), match="not valid")


@pytest.mark.parametrize(
    "text", [b"", b"{}", b"null", b"[" * 100_000, b'{"formatVersion":2,"storeId":"x"}', b"\xff\xfe", b"\0" * 600]
)
def test_a_manifest_that_is_none_is_refused(text, forgery, refused):
    from tests.eventvault.archive.format2.conftest import make_file

    forgery.files["manifest.json"] = make_file(text)
    refused(forgery.build())


def test_a_manifest_of_another_format_is_refused(forgery, refused):
    forgery.describe(format_version=3)
    refused(forgery.build(), ArchiveTooNew, "version 3")
    forgery.describe(format_version=1)
    refused(forgery.build(), match="version 1")


def test_a_manifest_with_the_digests_of_format_1_is_refused(forgery, refused):
    files = [manifest.FileRecord(file.name, file.size, sha256="5" * 64) for file in forgery.manifest.files]
    forgery.describe(files=files)
    refused(forgery.build(), match="no digest")


@pytest.mark.parametrize("created", ["yesterday", "1969-12-31T23:59:59.000Z", "2026-01-31T12:34:58.123Z"])
def test_a_manifest_with_another_time_is_refused(created, forgery, refused):
    about = forgery.manifest
    forgery.describe(created=created)
    forgery.manifest = about
    refused(forgery.build())


def test_unknown_members_of_the_manifest_are_tolerated(staging, about, tmp_path, monkeypatch):
    def with_more(complete: manifest.Manifest) -> bytes:
        return msgspec.json.encode({**msgspec.to_builtins(complete), "colour": {"of": ["the", "sky"]}})

    monkeypatch.setattr(manifest, "encode", with_more)
    path = tmp_path / "a.tar.gz"
    written = format_2.write_archive(path, staging, about)
    assert reader.verify(path).manifest == written.manifest == reader.read_manifest(path)


def test_an_archive_that_declares_more_than_it_can_hold_is_unsafe(forgery, tmp_path):
    forgery.describe(files=[msgspec.structs.replace(file, size=2**40) for file in forgery.manifest.files])
    (tmp_path / "a.tar.gz").write_bytes(forgery.build())
    with pytest.raises(ArchiveUnsafe):
        reader.unpack(tmp_path / "a.tar.gz", tmp_path / "target")


@pytest.mark.slow
@mutations
@given(several=changes, root_again=st.booleans())
def test_a_mutated_archive_never_gives_other_files(several, root_again, own, database_files, tmp_path_factory):
    whole = own.read_bytes()
    closing = layout.parse_closing(whole[-layout.CLOSING_SIZE :])
    ends = -layout.CLOSING_SIZE - layout.SEAL_SIZE
    mutated = whole[:ends] if root_again else whole
    for change in several:
        mutated = changed(mutated, change)
    if root_again:
        root = blake3(mutated[closing.index_offset :]).digest()
        mutated += layout.seal_member(bytes(32)) + layout.closing_member(closing._replace(digest=root))
    folder = tmp_path_factory.mktemp("mutated")
    path = folder / "a.tar.gz"
    path.write_bytes(mutated)
    try:
        reader.unpack(path, folder / "target")
    except ArchiveError:
        assert not (folder / "target").exists()
        assert mutated != whole
    else:
        assert content_of(folder / "target/event_registry_db") == database_files
        assert root_again or without_seal(mutated) == without_seal(whole)


def without_seal(content: bytes) -> bytes:
    end = len(content) - layout.CLOSING_SIZE - 10
    return content[: end - 32] + content[end:]


@pytest.mark.slow
@pytest.mark.parametrize("count", [pytest.param(50, id="short"), pytest.param(5000, id="long", marks=LONG)])
def test_random_flips_and_truncations_are_refused_and_nothing_is_unpacked(count, own, tmp_path):
    """But for the seal, which does not change what is unpacked: whether the archive is proven is told elsewhere."""
    whole = own.read_bytes()
    chance = random.Random(series_seed())
    path = tmp_path / "a.tar.gz"
    for number in range(count):
        place = chance.randrange(len(whole))
        if place in seal_of(whole):
            place -= len(seal_of(whole))
        damaged = bytearray(whole)
        if number % 5 == 0:
            del damaged[place:]
        else:
            damaged[place] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        for read in (reader.verify_digests, lambda path: reader.unpack(path, tmp_path / "target")):
            with pytest.raises(ArchiveError):
                read(path)
        assert not (tmp_path / "target").exists()
