"""A segment: consecutive events of one generation, as gzip-compressed JSON lines after a header line.

The first gzip member is the header, the second one the events' lines, byte for byte as in LevelDB. The header has
the SHA-256 of the events' lines and that of the previous segment, so that damage, a gap or a forgery is detected.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, cast

import msgspec
from isal import igzip_lib, isal_zlib

from eventvault import clock
from eventvault.damage import advice
from eventvault.database.generation import Generation
from eventvault.errors import DatabaseDamaged, JournalDamaged, JournalUnreadable
from eventvault.events import event
from eventvault.files import durable_file
from eventvault.regular_files import open_file, read_file
from eventvault.system_errors import reason_of

FORMAT_VERSION = 1
SUFFIX = ".jsonl.gz"

_IsalError = cast(type[Exception], igzip_lib.IsalError)
_NAME = re.compile(r"segment_([0-9]{19})-([0-9]{19})\.jsonl\.gz")
_GZIP = 31
"""zlib's `wbits` for gzip members."""
_LEVEL = 1
_MAX_HEADER_BYTES = 4 * 2**20
_MAX_EVENTS_BYTES = 256 * 2**20
"""More than any segment holds: it ends after 8 MiB, and one event is at most as large as a request."""
_READ_BYTES = 64 * 1024
_Sha256Hex = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class EventRange(msgspec.Struct, frozen=True):
    """The events from `first` to `last`, with the SHA-256 in hex of their lines."""

    first: int
    last: int
    sha256: _Sha256Hex


class SegmentInfo(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The part of a segment's header that does not follow from its events.

    first: the first event's sequence. previous: the segment before it when it was written; None if there was none.
    merged: how many segments were merged into it. kafka: topic → partition → an offset that is not beyond the events,
    as LevelDB holds it; empty if unknown.
    """

    format_version: int = FORMAT_VERSION
    store_id: str
    installation: str
    generation: Generation
    first: int
    previous: EventRange | None = None
    merged: int = 1
    kafka: dict[str, dict[str, Any]] = {}


class SegmentHeader(SegmentInfo, frozen=True, kw_only=True, rename="camel"):
    """A segment's header. In JSON the members' names are in camelCase; unknown ones are ignored.

    first_time, last_time: `recordedtime` of the first and last event, as printed. bytes: the length of all lines.
    sha256: of all lines, in hex.
    """

    last: int
    first_time: str
    last_time: str
    bytes: int
    sha256: _Sha256Hex

    @property
    def event_range(self) -> EventRange:
        return EventRange(self.first, self.last, self.sha256)


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
    return hashlib.sha256(_joined(lines)).hexdigest()


def write_segment(folder: Path, info: SegmentInfo, lines: Sequence[bytes]) -> Segment:
    """Write the events `lines` (without newlines) durably into `folder`.

    info: the header's members that describe the events are added to it. A segment of the same name is replaced.
    Raises DatabaseDamaged for an event with a line break in it, which no reader would take for one event, NoSpace or
    OSError; then no file remains.
    """
    content = _joined(lines)
    if content.count(b"\n") != len(lines):
        broken = next(number for number, line in enumerate(lines, info.first) if b"\n" in line)
        raise DatabaseDamaged(
            f"event {broken} has a line break in it, so the journal cannot hold it",
            hint="restore an archive from before that event; POST /api/backup/restore",
        )
    last = info.first + len(lines) - 1
    header = SegmentHeader(
        **{name: getattr(info, name) for name in SegmentInfo.__struct_fields__},
        last=last,
        first_time=clock.format_microseconds(event.recorded_of(lines[0])),
        last_time=clock.format_microseconds(event.recorded_of(lines[-1])),
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )
    path = folder / name_of(header.first, last)
    with durable_file(path) as file:
        file.write(isal_zlib.compress(msgspec.json.encode(header) + b"\n", _LEVEL, wbits=_GZIP))
        file.write(isal_zlib.compress(content, _LEVEL, wbits=_GZIP))
        size = file.tell()
    return Segment(path, header, size)


def read_header(path: Path) -> Segment:
    """Read only the header of a segment. Raises JournalDamaged, FileNotFoundError or OSError."""
    with open_file(path) as file:
        size = file.seek(0, 2)
        file.seek(0)
        inflater = isal_zlib.decompressobj(wbits=_GZIP)
        text = b""
        while not inflater.eof:
            feed = inflater.unconsumed_tail or file.read(_READ_BYTES)
            if not feed or len(text) > _MAX_HEADER_BYTES:
                raise _damaged(path, "its header does not end")
            text += _inflated(path, inflater, feed, _MAX_HEADER_BYTES + 1)
    return Segment(path, _decoded(path, text), size)


def read_lines(segment: Segment) -> list[bytes]:
    """Return all events of a segment, with every byte checked. Raises JournalDamaged or FileNotFoundError.

    Takes as much memory as the events. Content that is longer than the header's `bytes` is not inflated.
    """
    path, header = segment.path, segment.header
    first = isal_zlib.decompressobj(wbits=_GZIP)
    text = _inflated(path, first, _content(path), _MAX_HEADER_BYTES + 1)
    if not first.eof or _decoded(path, text) != header:
        raise _damaged(path, "its header has changed since it was read")
    second = isal_zlib.decompressobj(wbits=_GZIP)
    content = _inflated(path, second, first.unused_data, header.bytes + 1)
    if len(content) != header.bytes or not second.eof:
        raise _damaged(path, f"its events are not the {header.bytes} bytes that its header says")
    if second.unused_data:
        raise _damaged(path, "something follows its end")
    if hashlib.sha256(content).hexdigest() != header.sha256:
        raise _damaged(path, "its events do not match the checksum in its header")
    lines = content.split(b"\n")
    if lines.pop() or len(lines) != header.last - header.first + 1:
        raise _damaged(path, f"it does not hold the events {header.first} to {header.last}")
    return lines


def unreadable_error(path: Path, error: OSError) -> JournalUnreadable:
    """Return the error for a segment that cannot be read, which does not mean that it is damaged."""
    return JournalUnreadable(f"reading {path} failed: {reason_of(error)}", hint=advice(error), segment=str(path))


def _content(path: Path) -> bytes:
    try:
        return read_file(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise unreadable_error(path, error) from error


def _joined(lines: Sequence[bytes]) -> bytes:
    return b"\n".join(lines) + b"\n"


def _inflated(path: Path, inflater: Any, piece: bytes, most: int) -> bytes:
    try:
        inflated: bytes = inflater.decompress(piece, most)
    except _IsalError as error:
        raise _damaged(path, f"it cannot be inflated: {error}") from error
    return inflated


def _decoded(path: Path, text: bytes) -> SegmentHeader:
    try:
        header = msgspec.json.decode(text, type=SegmentHeader)
        expected_name = name_of(header.first, header.last)
        good = header.format_version == FORMAT_VERSION and 0 < header.first <= header.last
        good = good and 0 <= header.bytes <= _MAX_EVENTS_BYTES
        good = good and clock.parse(header.first_time) <= clock.parse(header.last_time)
    except ValueError as error:
        raise _damaged(path, f"its header is not valid: {error}") from error
    if not good or expected_name != path.name or header.generation.id != path.parent.name:
        raise _damaged(
            path,
            "its header does not fit its name, claims more than a segment holds, or has another version of the format",
        )
    return header


def _damaged(path: Path, what: str) -> JournalDamaged:
    return JournalDamaged(
        f"{path} is damaged: {what}",
        hint="GET /api/backup/timeline shows the moments that can be restored without it",
        segment=str(path),
    )
