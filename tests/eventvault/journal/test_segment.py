"""A segment on disk: it is read as it was written, and everything else is refused."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import msgspec
import orjson
import pytest

from eventvault import clock
from eventvault.database.generation import Generation
from eventvault.database.keyed_requests import StoredAnswer
from eventvault.errors import JournalDamaged, JournalUnreadable
from eventvault.events import event
from eventvault.journal import segment
from eventvault.journal.segment import Content, Segment, SegmentInfo

FIXTURES = Path(__file__).parents[2] / "fixtures"
GENERATION = Generation("0123456789abcdef", None, 0, "created", 1)


def lines(first: int, count: int) -> list[bytes]:
    instant = clock.parse("2026-01-31T12:00:00Z")
    drafts = [event.draft({"type": "t", "id": f"e{number}"}, instant) for number in range(first, first + count)]
    return [event.recorded_body(each.body, first + n, instant + first + n) for n, each in enumerate(drafts)]


def about(first: int) -> SegmentInfo:
    kafka = {"events": {"0": {"next": 7}}}
    return SegmentInfo(store_id="s", installation="i", generation=GENERATION, first=first, kafka=kafka)


def answer(sequence: int) -> StoredAnswer:
    """With a record that no other program would write like this: it comes back byte for byte."""
    record = b'{"at": 1769860800000000,"content":"\\u00e4","last_sequence":%d,"results":[[%d,1,0]]}' % (
        sequence,
        sequence,
    )
    return StoredAnswer(sequence, sequence.to_bytes(16, "big"), record)


EVENTS = lines(5, 20)
CONTENTS = {
    "events alone": Content(EVENTS, [], []),
    "with answers": Content(EVENTS, [answer(7), answer(24)], []),
    "with an outbox": Content(EVENTS, [], [(5, 8), (10, 10)]),
    "with both": Content(EVENTS, [answer(7), answer(24)], [(24, 24)]),
}


@pytest.fixture(params=CONTENTS)
def content(request: pytest.FixtureRequest) -> Content:
    return CONTENTS[request.param]


@pytest.fixture
def written(tmp_path: Path, content: Content) -> Segment:
    folder = tmp_path / GENERATION.id
    folder.mkdir()
    info = msgspec.structs.replace(about(5), published=4) if content.pending else about(5)
    return segment.write_segment(folder, info, *content)


def test_what_was_written_is_read(written: Segment, content: Content) -> None:
    read = segment.read_header(written.path)

    assert read == written
    assert (read.first, read.last, read.header.kafka) == (5, 24, {"events": {"0": {"next": 7}}})
    assert segment.read_content(read) == content


def test_events_alone_are_written_as_every_version_reads_them(written: Segment, content: Content) -> None:
    header = orjson.loads(gzip.decompress(written.path.read_bytes()).splitlines()[0])

    assert header["formatVersion"] == (3 if content.pending else 2 if content.answers else 1)
    assert ("answers" in header) == bool(content.answers)
    assert ("outbox" in header, "published" in header) == (bool(content.pending), bool(content.pending))


@pytest.mark.parametrize(("version", "name"), [(2, "with answers"), (3, "with both")])
def test_a_segment_of_an_earlier_version_is_read_for_ever(version: int, name: str) -> None:
    """It was written by the first EventVault that had this version; one of version 1 is in the fixture of 0.1.0."""
    path = FIXTURES / f"journal-{version}" / GENERATION.id / segment.name_of(5, 24)

    events, answers, pending = segment.read_content(segment.read_header(path))

    assert [orjson.loads(line)["id"] for line in events] == [f"e{number}" for number in range(5, 25)]
    assert (answers, list(pending)) == (CONTENTS[name].answers, CONTENTS[name].pending if version == 3 else [])


def test_a_segment_of_a_later_version_is_left_alone(written: Segment) -> None:
    for header in ({"formatVersion": 4, "something": "else"}, {"formatVersion": 4, "sha256": None, "first": 5}):
        written.path.write_bytes(gzip.compress(orjson.dumps(header) + b"\n"))
        with pytest.raises(JournalUnreadable, match="a later version"):
            segment.read_header(written.path)


def test_answers_that_are_none_are_damage(written: Segment) -> None:
    for text in (b"{}\n", b'{"sequence":7,"id":"00","record":{}}\n', b"\xff\n"):
        header = msgspec.structs.replace(
            written.header, format_version=2, answers=segment._describe_member(text), outbox=msgspec.UNSET
        )
        parts = [msgspec.json.encode(header) + b"\n", b"".join(line + b"\n" for line in lines(5, 20)), text]
        written.path.write_bytes(b"".join(map(gzip.compress, parts)))
        with pytest.raises(JournalDamaged, match="its answers or its outbox are not as they"):
            segment.read_lines(segment.read_header(written.path))


@pytest.mark.parametrize("text", [b"{}", b"[[4,5]]", b"[[24,25]]", b"[[7,6]]", b"[[9,9],[5,5]]", b"[[5]]", b"\xff"])
def test_an_outbox_that_is_none_is_damage(written: Segment, text: bytes) -> None:
    header = msgspec.structs.replace(
        written.header, format_version=3, answers=msgspec.UNSET, outbox=segment._describe_member(text)
    )
    parts = [msgspec.json.encode(header) + b"\n", b"".join(line + b"\n" for line in EVENTS), text]
    written.path.write_bytes(b"".join(map(gzip.compress, parts)))
    with pytest.raises(JournalDamaged, match="its answers or its outbox are not as they"):
        segment.read_lines(segment.read_header(written.path))


def test_the_version_and_the_answers_of_a_header_belong_together(written: Segment) -> None:
    header = written.header
    for other in (
        msgspec.structs.replace(header, format_version=header.format_version % 3 + 1),
        msgspec.structs.replace(
            header, format_version=2, answers=segment.AnswersInfo(10**12, header.sha256), outbox=msgspec.UNSET
        ),
        msgspec.structs.replace(header, format_version=0),
    ):
        written.path.write_bytes(gzip.compress(msgspec.json.encode(other) + b"\n"))
        with pytest.raises(JournalDamaged, match="does not fit"):
            segment.read_header(written.path)


def test_it_is_readable_without_this_program(written: Segment) -> None:
    header, *rest = gzip.decompress(written.path.read_bytes()).splitlines()
    runs = rest.pop() if "outbox" in orjson.loads(header) else b"[]"

    assert all(5 <= first <= last <= 24 for first, last in orjson.loads(runs))
    assert orjson.loads(header)["generation"]["id"] == GENERATION.id
    assert [orjson.loads(line)["sequence"] for line in rest[:20]] == list(range(5, 25))
    assert [orjson.loads(line)["sequence"] for line in rest[20:]] == (
        [7, 24] if "answers" in orjson.loads(header) else []
    )


@pytest.mark.slow
def test_each_flipped_bit_and_each_missing_end_is_found_or_harmless(written: Segment) -> None:
    whole, good = written.path.read_bytes(), segment.read_content(written)
    found = 0
    for position in range(0, len(whole) * 8, 7):
        changed = bytearray(whole)
        changed[position // 8] ^= 1 << position % 8
        written.path.write_bytes(changed)
        try:
            read = segment.read_header(written.path)
            assert segment.read_content(read) == good
            assert read.header == written.header
        except JournalDamaged:
            found += 1
    assert found > len(whole)
    for size in range(len(whole)):
        written.path.write_bytes(whole[:size])
        with pytest.raises(JournalDamaged):
            segment.read_lines(segment.read_header(written.path))


def test_what_follows_the_end_is_found(written: Segment) -> None:
    for more in (b"\0", gzip.compress(b"{}\n"), b"text"):
        whole = written.path.read_bytes()
        written.path.write_bytes(whole + more)
        with pytest.raises(JournalDamaged, match="follows its end"):
            segment.read_lines(written)
        written.path.write_bytes(whole)


def test_a_segment_under_anothers_name_or_generation_is_refused(written: Segment, tmp_path: Path) -> None:
    for name in (segment.name_of(6, 25), segment.name_of(5, 25)):
        other = written.path.with_name(name)
        os.link(written.path, other)
        with pytest.raises(JournalDamaged, match="does not fit its name"):
            segment.read_header(other)
    elsewhere = tmp_path / "fedcba9876543210"
    elsewhere.mkdir()
    os.link(written.path, elsewhere / written.path.name)
    with pytest.raises(JournalDamaged):
        segment.read_header(elsewhere / written.path.name)


@pytest.mark.slow
def test_a_bomb_is_not_inflated(written: Segment) -> None:
    header = gzip.decompress(written.path.read_bytes()).split(b"\n", 1)[0]
    written.path.write_bytes(gzip.compress(header + b"\n") + gzip.compress(bytes(50_000_000)))

    with pytest.raises(JournalDamaged, match="its events are not the"):
        segment.read_lines(segment.read_header(written.path))
    written.path.write_bytes(gzip.compress(bytes(50_000_000)))
    with pytest.raises(JournalDamaged, match="header does not end"):
        segment.read_header(written.path)


def test_a_header_that_tells_of_more_than_fits_into_a_segment_is_not_believed(written: Segment) -> None:
    header = msgspec.structs.replace(written.header, bytes=10**12)
    content = gzip.compress(msgspec.json.encode(header) + b"\n") + gzip.compress(b"\0" * 10**6)
    written.path.write_bytes(content)
    with pytest.raises(JournalDamaged, match="more than a segment holds"):
        segment.read_header(written.path)
