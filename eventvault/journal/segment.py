"""Reads and writes segments: consecutive events of one generation, as gzip-compressed JSON lines after a header line.

The first gzip member is the header, the second one the events' lines, byte for byte as in LevelDB. The header has the
SHA-256 of these lines and of the previous segment's lines, so that damage, a gap or a forgery is detected.
In version 2 a third member has the answers to the requests with an `Idempotency-Key` that stored these events. In
version 3 a last member names the events that still waited to be published to Kafka when the segment was written.
A segment without these members is written in version 1, which every EventVault reads.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, NamedTuple, cast

import msgspec
from isal import igzip_lib, isal_zlib

from eventvault import clock
from eventvault.damage import advice
from eventvault.database.generation import Generation
from eventvault.database.keyed_requests import StoredAnswer
from eventvault.database.outbox import Runs
from eventvault.errors import DatabaseDamaged, JournalDamaged, JournalUnreadable
from eventvault.events import event
from eventvault.files import durable_file
from eventvault.gzip_format import WBITS
from eventvault.regular_files import open_file, read_file
from eventvault.system_errors import reason_of

FORMAT_VERSION = 1
WITH_ANSWERS = 2
"""The version of a segment that has answers."""
WITH_OUTBOX = 3
"""The version of a segment with events that wait to be published."""
SUFFIX = ".jsonl.gz"

_IsalError = cast(type[Exception], igzip_lib.IsalError)
_NAME = re.compile(r"segment_([0-9]{19})-([0-9]{19})\.jsonl\.gz")
_LEVEL = 1
_MAX_HEADER_BYTES = 4 * 2**20
_MAX_CONTENT_BYTES = 256 * 2**20
"""More than any segment holds: a segment ends after 8 MiB, and an event is at most as large as a request."""
_READ_BYTES = 64 * 1024
_RequestId = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
_Sha256Hex = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class EventRange(msgspec.Struct, frozen=True):
    """The events from `first` to `last`, with the SHA-256 in hex of their lines."""

    first: int
    last: int
    sha256: _Sha256Hex


class AnswersInfo(msgspec.Struct, frozen=True):
    """The length of a member, such as the answers' lines, and its SHA-256 in hex."""

    bytes: Annotated[int, msgspec.Meta(ge=1)]
    sha256: _Sha256Hex


class _Versioned(msgspec.Struct, rename="camel"):
    format_version: int


class SegmentInfo(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The part of a segment's header that does not follow from its events.

    first: the first event's sequence. previous: the segment that came before it when it was written; None if there was
    none. merged: how many segments were merged into it. kafka: topic → partition → an offset that is not beyond the
    events, as in LevelDB; empty if unknown. published: no event up to this sequence waits to be published; unset if
    publishing was never used.
    """

    format_version: int = FORMAT_VERSION
    store_id: str
    installation: str
    generation: Generation
    first: int
    previous: EventRange | None = None
    merged: int = 1
    kafka: dict[str, dict[str, Any]] = {}
    published: Annotated[int, msgspec.Meta(ge=0)] | msgspec.UnsetType = msgspec.UNSET


class SegmentHeader(SegmentInfo, frozen=True, kw_only=True, rename="camel"):
    """A segment's header. In JSON the members' names are in camelCase; unknown ones are ignored.

    first_time, last_time: `recordedtime` of the first and last event, as printed. bytes: the length of all lines.
    sha256: of all lines, in hex. answers: in version 2, and perhaps in 3. outbox: in version 3 only.
    """

    last: int
    first_time: str
    last_time: str
    bytes: int
    sha256: _Sha256Hex
    answers: AnswersInfo | msgspec.UnsetType = msgspec.UNSET
    outbox: AnswersInfo | msgspec.UnsetType = msgspec.UNSET

    @property
    def event_range(self) -> EventRange:
        return EventRange(self.first, self.last, self.sha256)

    @property
    def content_bytes(self) -> int:
        """The number of bytes of the events and the other members."""
        return self.bytes + sum(
            member.bytes for member in (self.answers, self.outbox) if isinstance(member, AnswersInfo)
        )

    @property
    def has_answers(self) -> bool:
        return isinstance(self.answers, AnswersInfo)

    @property
    def has_outbox(self) -> bool:
        return isinstance(self.outbox, AnswersInfo)

    @property
    def expected_version(self) -> int:
        if self.has_outbox:
            return WITH_OUTBOX
        return WITH_ANSWERS if self.has_answers else FORMAT_VERSION


class Content(NamedTuple):
    """The events of a segment as lines, and the answers to the requests that stored them, both in order.

    pending: the events that waited to be published when the segment was written.
    """

    lines: list[bytes]
    answers: list[StoredAnswer]
    pending: Runs = ()


class _AnswerLine(msgspec.Struct, frozen=True):
    """A line of an answer. id: in hex. record: as in the database."""

    sequence: int
    id: _RequestId
    record: msgspec.Raw


_encode_lines = msgspec.json.Encoder().encode_lines
_decode_answer_lines = msgspec.json.Decoder(_AnswerLine).decode_lines
_decode_runs = msgspec.json.Decoder(list[tuple[int, int]]).decode


class Segment(msgspec.Struct, frozen=True):
    """A segment on disk. size: bytes of the file."""

    path: Path
    header: SegmentHeader
    size: int

    @property
    def first(self) -> int:
        return self.header.first

    @property
    def last(self) -> int:
        return self.header.last

    @property
    def generation(self) -> str:
        return self.header.generation.id

    @property
    def first_time(self) -> int:
        """Microseconds since the epoch."""
        return clock.parse(self.header.first_time)

    @property
    def last_time(self) -> int:
        return clock.parse(self.header.last_time)


def published_of(headers: Iterable[SegmentInfo]) -> int | None:
    """Return the largest `published` of these headers; None if none has it."""
    return max((header.published for header in headers if isinstance(header.published, int)), default=None)


def name_of(first: int, last: int) -> str:
    return f"segment_{first:019d}-{last:019d}{SUFFIX}"


def is_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def parse_name(name: str) -> tuple[int, int]:
    """Return the first and the last sequence in a segment's name."""
    match = _NAME.fullmatch(name)
    assert match is not None, f"{name} is not the name of a segment"
    return int(match[1]), int(match[2])


def sha256_of(lines: Sequence[bytes]) -> str:
    """Return the SHA-256 in hex of the lines as a segment holds them, with a newline after every line."""
    return hashlib.sha256(_join_lines(lines)).hexdigest()


def write_segment(
    folder: Path,
    info: SegmentInfo,
    lines: Sequence[bytes],
    answers: Sequence[StoredAnswer] = (),
    pending: Runs = (),
) -> Segment:
    """Write the events `lines` (without newlines), and the answers to their requests, durably into `folder`.

    info: the header without the members that describe the events. pending: the events that wait to be published. A
    segment of the same name is replaced. Raises NoSpace, OSError, or DatabaseDamaged for an event with a line break,
    which readers would take for two events; then no file remains.
    """
    content = _join_lines(lines)
    if content.count(b"\n") != len(lines):
        broken = next(number for number, line in enumerate(lines, info.first) if b"\n" in line)
        raise DatabaseDamaged(
            f"event {broken} has a line break in it, so the journal cannot hold it",
            hint="restore an archive from before that event; POST /api/backup/restore",
        )
    last = info.first + len(lines) - 1
    info_fields = {name: getattr(info, name) for name in SegmentInfo.__struct_fields__}
    answer_lines = encode_answers(answers)
    outbox = msgspec.json.encode(pending) if pending else b""
    header = SegmentHeader(
        **info_fields,
        last=last,
        first_time=clock.format_microseconds(event.recorded_of(lines[0])),
        last_time=clock.format_microseconds(event.recorded_of(lines[-1])),
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        answers=_describe_member(answer_lines),
        outbox=_describe_member(outbox),
    )
    header = msgspec.structs.replace(header, format_version=header.expected_version)
    path = folder / name_of(header.first, last)
    with durable_file(path) as file:
        file.write(isal_zlib.compress(msgspec.json.encode(header) + b"\n", _LEVEL, wbits=WBITS))
        file.write(isal_zlib.compress(content, _LEVEL, wbits=WBITS))
        for member in (answer_lines, outbox):
            if member:
                file.write(isal_zlib.compress(member, _LEVEL, wbits=WBITS))
        size = file.tell()
    return Segment(path, header, size)


def read_header(path: Path) -> Segment:
    """Read only the header of a segment. Raises JournalDamaged, FileNotFoundError or OSError."""
    with open_file(path) as file:
        size = file.seek(0, 2)
        file.seek(0)
        inflater = isal_zlib.decompressobj(wbits=WBITS)
        text = b""
        while not inflater.eof:
            feed = inflater.unconsumed_tail or file.read(_READ_BYTES)
            if not feed or len(text) > _MAX_HEADER_BYTES:
                raise _damaged(path, "its header does not end")
            text += _inflate(path, inflater, feed, _MAX_HEADER_BYTES + 1)
    return Segment(path, _decode_header(path, text), size)


def read_lines(segment: Segment) -> list[bytes]:
    """Return all events of a segment. Raises the errors of `read_content`."""
    return read_content(segment).lines


def read_content(segment: Segment) -> Content:
    """Return all events of a segment and the answers, with every byte checked.

    Raises JournalDamaged or FileNotFoundError. Takes as much memory as the content. No more bytes are inflated than the
    header says.
    """
    path, header = segment.path, segment.header
    first = isal_zlib.decompressobj(wbits=WBITS)
    text = _inflate(path, first, _content(path), _MAX_HEADER_BYTES + 1)
    if not first.eof or _decode_header(path, text) != header:
        raise _damaged(path, "its header has changed since it was read")
    content, rest = _read_member(path, first.unused_data, "events", header.bytes, header.sha256)
    answers, outbox = b"", b"[]"
    if isinstance(header.answers, AnswersInfo):
        answers, rest = _read_member(path, rest, "answers", header.answers.bytes, header.answers.sha256)
    if isinstance(header.outbox, AnswersInfo):
        outbox, rest = _read_member(path, rest, "outbox", header.outbox.bytes, header.outbox.sha256)
    if rest:
        raise _damaged(path, "something follows its end")
    lines = content.split(b"\n")
    if lines.pop() or len(lines) != header.last - header.first + 1:
        raise _damaged(path, f"it does not hold the events {header.first} to {header.last}")
    try:
        return Content(lines, decode_answers(answers), _check_runs(header, _decode_runs(outbox)))
    except (msgspec.MsgspecError, ValueError) as error:
        raise _damaged(path, f"its answers or its outbox are not as they were written: {error}") from error


def _check_runs(header: SegmentHeader, runs: Runs) -> Runs:
    """Return the runs. Raises ValueError if they are not in order or not within the segment's events."""
    bounds = [header.first, *(bound for run in runs for bound in run), header.last]
    if any(later < earlier for earlier, later in pairwise(bounds)):
        raise ValueError("events that are not in the segment")
    return runs


def _read_member(path: Path, packed: bytes, what: str, size: int, sha256: str) -> tuple[bytes, bytes]:
    """Return the content of the first gzip member in `packed`, and the bytes after the member."""
    inflater = isal_zlib.decompressobj(wbits=WBITS)
    content = _inflate(path, inflater, packed, size + 1)
    if len(content) != size or not inflater.eof:
        raise _damaged(path, f"its {what} are not the {size} bytes that its header says")
    if hashlib.sha256(content).hexdigest() != sha256:
        raise _damaged(path, f"its {what} do not match the checksum in its header")
    return content, inflater.unused_data


def encode_answers(answers: Iterable[StoredAnswer]) -> bytes:
    """Return answers as lines for a segment."""
    return _encode_lines(
        [_AnswerLine(answer.sequence, answer.request_id.hex(), msgspec.Raw(answer.record)) for answer in answers]
    )


def decode_answers(lines: bytes) -> list[StoredAnswer]:
    """Return the answers in a segment's lines. Raises MsgspecError."""
    return [
        StoredAnswer(line.sequence, bytes.fromhex(line.id), bytes(line.record)) for line in _decode_answer_lines(lines)
    ]


def _describe_member(content: bytes) -> AnswersInfo | msgspec.UnsetType:
    return AnswersInfo(len(content), hashlib.sha256(content).hexdigest()) if content else msgspec.UNSET


def unreadable_error(path: Path, error: OSError) -> JournalUnreadable:
    """Return the error for a segment that cannot be read now. The segment may be good."""
    return JournalUnreadable(f"reading {path} failed: {reason_of(error)}", hint=advice(error), segment=str(path))


def _content(path: Path) -> bytes:
    try:
        return read_file(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise unreadable_error(path, error) from error


def _join_lines(lines: Sequence[bytes]) -> bytes:
    return b"\n".join([*lines, b""])  # in one step: adding a newline at the end would copy 8 MiB once more


def _inflate(path: Path, inflater: Any, piece: bytes, most: int) -> bytes:
    try:
        inflated: bytes = inflater.decompress(piece, most)
    except _IsalError as error:
        raise _damaged(path, f"it cannot be inflated: {error}") from error
    return inflated


def _decode_header(path: Path, text: bytes) -> SegmentHeader:
    _refuse_later(path, text)
    try:
        header = msgspec.json.decode(text, type=SegmentHeader)
        expected_name = name_of(header.first, header.last)
        good = header.format_version == header.expected_version
        good = good and 0 < header.first <= header.last
        good = good and 0 <= header.bytes <= header.content_bytes <= _MAX_CONTENT_BYTES
        good = good and clock.parse(header.first_time) <= clock.parse(header.last_time)
    except ValueError as error:
        raise _damaged(path, f"its header is not valid: {error}") from error
    if not good or expected_name != path.name or header.generation.id != path.parent.name:
        raise _damaged(
            path,
            "its header does not fit its name, claims more than a segment holds, or has another version of the format",
        )
    return header


def _refuse_later(path: Path, text: bytes) -> None:
    """Raise JournalUnreadable for a segment of a later version. It may be good, so it must not be quarantined."""
    with suppress(msgspec.MsgspecError):
        if msgspec.json.decode(text, type=_Versioned).format_version > WITH_OUTBOX:
            raise JournalUnreadable(
                f"{path} was written by a later version of EventVault",
                hint="install the version that wrote it, or a later one",
                segment=str(path),
            )


def _damaged(path: Path, what: str) -> JournalDamaged:
    return JournalDamaged(
        f"{path} is damaged: {what}",
        hint="GET /api/backup/timeline shows the moments that can be restored without it",
        segment=str(path),
    )
