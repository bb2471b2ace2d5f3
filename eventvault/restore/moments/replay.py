"""Brings a database to an exact event: cuts off the later ones, and replays missing ones from segments.

For private copies only, without syncs: the caller syncs the result.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from eventvault.database import bulk, keyed_requests, keys, outbox
from eventvault.database.bulk import BulkWriter, IndexedMembers
from eventvault.database.keyed_requests import StoredAnswer
from eventvault.database.registry import EventRegistry
from eventvault.errors import JournalDamaged
from eventvault.events.event import RECORDED_TIME
from eventvault.journal import segment
from eventvault.journal.segment import Content, Segment
from eventvault.kafka import offsets
from eventvault.keyed_request import KEEP_MICROSECONDS
from eventvault.operations.operation import current as current_operation

_BATCH = 2000


class _Line(IndexedMembers, kw_only=True, gc=False):
    sequence: int


_decode = msgspec.json.Decoder(_Line).decode


def cut(db: Any, registry: EventRegistry, upto: int) -> None:
    """Remove every event after `upto`, with its keys and the answers to the requests that brought it.

    LevelDB only marks what is deleted, and finding the last event would read all of it again while everybody waits for
    the database to be opened. So the range of the events is compacted here.
    """
    last = registry.last_sequence
    batch, waiting = db.write_batch(), 0
    for sequence, value in registry.events(upto, last):
        for key in bulk.keys_of(_decode(value), sequence):
            batch.delete(key)
        waiting += 1
        if waiting == _BATCH:
            batch.write()
            batch, waiting = db.write_batch(), 0
    keyed_requests.remove_after(db, batch, upto)
    outbox.remove_after(db, batch, upto)
    batch.write()
    db.compact_range(start=keys.event_key(upto + 1), stop=keys.event_key(last + 1))


def replay(
    db: Any,
    registry: EventRegistry,
    segments: Sequence[tuple[Path, int]],
    *,
    archive: str | None = None,
    published: int = 0,
    present: Mapping[int, str] = MappingProxyType({}),
) -> int:
    """Append the events of segments, in order, each up to the sequence beside its path; return the last sequence.

    Appends the answers to their requests too, and lets the events wait that are to be published. Checks every segment
    against the events before it, and against those of the open database. archive: the path of the archive that the
    database was unpacked from. published: no event up to this one waits to be published. present: SHA-256 of events of
    the open database, by sequence. Raises JournalDamaged if a segment is damaged, forged, missing, or does not continue
    the events before it; the error also names the `archive` if that may be the wrong one.
    """
    with bulk.bulk_writer(db) as writer:
        base = {} if archive is None else {"archive": archive}
        return _replay(writer, db, registry, segments, base, max(published, _published(segments)), present)


def _replay(
    writer: BulkWriter,
    db: Any,
    registry: EventRegistry,
    segments: Sequence[tuple[Path, int]],
    base: Mapping[str, str],
    published: int,
    present: Mapping[int, str],
) -> int:
    last = registry.last_sequence
    recorded = registry.at(last)[RECORDED_TIME] if last else b""
    before: tuple[int, Sequence[bytes]] = (0, ())
    sizes = [_size(path) for path, _ in segments]
    since = _oldest_answer(segments)
    progress = current_operation()
    if segments:
        progress.step("replay", sum(sizes))
    for (path, upto), size in zip(segments, sizes, strict=True):
        with _missing_is_damage(path):
            current = segment.read_header(path)
        lines, answers, pending = content_of(current)
        if not _holds_previous(current, before) or current.first <= last:
            writer.settle()  # the checks read events of the registry
        _check_previous(current, before, registry, base)
        _check_overlap(current, lines, registry, last, base)
        wanted = lines[max(0, last + 1 - current.first) : max(0, upto + 1 - current.first)]
        if current.first > last + 1:
            raise JournalDamaged(
                f"{path} does not continue event {last}", hint="a segment before it is missing", segment=str(path)
            )
        _check_present(path, wanted, last + 1, present)
        recorded = _append(writer, path, last + 1, wanted, recorded)
        put_answers(db, (answer for answer in answers if last < answer.sequence <= last + len(wanted)), since)
        _put(db, outbox.key_values_of(pending, max(last, published), last + len(wanted)))
        last += len(wanted)
        if current.last <= upto:
            note_offsets(db, current.header.kafka)
        before, base = (current.first, lines), {}
        progress.advance(size)
    if published:
        outbox.note_published(db, min(published, last))
    return last


def _published(segments: Sequence[tuple[Path, int]]) -> int:
    """Return the last event up to which nothing waits to be published, by the segments' headers.

    A header counts for the events of its own generation.
    """
    published = 0
    for path, upto in segments:
        with suppress(JournalDamaged, OSError):  # the replay says what is wrong
            header = segment.read_header(path).header
            published = max(published, min(header.published, upto) if isinstance(header.published, int) else 0)
    return published


def _oldest_answer(segments: Sequence[tuple[Path, int]]) -> int:
    """Return the instant before which an answer has expired at the end of the last segment."""
    with suppress(JournalDamaged, OSError):  # the replay says what is wrong
        return segment.read_header(segments[-1][0]).last_time - KEEP_MICROSECONDS + 1 if segments else 0
    return 0


def _size(path: Path) -> int:
    with suppress(OSError):  # its reader says what is wrong
        return path.stat().st_size
    return 0


def lines_of(source: Segment) -> list[bytes]:
    """Return all events of a segment, every byte checked. Raises JournalDamaged (also if it is missing) or OSError."""
    with _missing_is_damage(source.path):
        return segment.read_lines(source)


def content_of(source: Segment) -> Content:
    """Return all events of a segment with the answers to their requests. Raises as `lines_of` does."""
    with _missing_is_damage(source.path):
        return segment.read_content(source)


@contextmanager
def _missing_is_damage(path: Path) -> Iterator[None]:
    """Raise JournalDamaged for a missing file: compaction or rotation may remove a segment after it was listed."""
    try:
        yield
    except FileNotFoundError as error:
        raise JournalDamaged(
            f"{path} is missing", hint="GET /api/backup/timeline shows what can be restored", segment=str(path)
        ) from error


def _append(writer: BulkWriter, path: Path, first: int, lines: Sequence[bytes], recorded: bytes) -> bytes:
    """Put the events of the segment `path`, and return `recordedtime` of the last one.

    recorded: `recordedtime` of the event before. As text, it sorts as the instants do. Raises JournalDamaged if a line
    is not the next event.
    """
    for sequence, line in enumerate(lines, first):
        try:
            event = _decode(line)
        except msgspec.MsgspecError as error:
            raise _not_as_written(path, sequence) from error
        if event.sequence != sequence or line[RECORDED_TIME] < recorded:
            raise _not_as_written(path, sequence)
        recorded = line[RECORDED_TIME]
        writer.put(sequence, line, event)
    return recorded


def recorded_puts(line: bytes, sequence: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of an event as it was recorded. Raises ValueError if it is not that event."""
    event = _decode(line)
    if event.sequence != sequence:
        raise ValueError(f"event {sequence} says that it is event {event.sequence}")
    at_event, at_identity, *at_indexes = bulk.keys_of(event, sequence)
    yield at_event, line
    yield at_identity, keys.identity_value(sequence, bulk.NO_NONCE)
    yield from ((key, b"") for key in at_indexes)


def put_answers(db: Any, answers: Iterable[StoredAnswer], since: int = 0) -> None:
    """Put answers to requests. since: an answer that was recorded earlier has expired."""
    _put(db, (put for answer in answers for put in keyed_requests.key_values_of_stored(answer, since)))


def _put(db: Any, puts: Iterable[tuple[bytes, bytes]]) -> None:
    batch = db.write_batch()
    for key, value in puts:
        batch.put(key, value)
    batch.write()


def _holds_previous(current: Segment, before: tuple[int, Sequence[bytes]]) -> bool:
    """Return True if the segment before it has all events after which this segment was written."""
    previous, (first, lines) = current.header.previous, before
    return previous is None or (bool(lines) and first <= previous.first and previous.last < first + len(lines))


def _check_previous(
    current: Segment, before: tuple[int, Sequence[bytes]], registry: EventRegistry, base: Mapping[str, str]
) -> None:
    """Raise JournalDamaged if the segment was written after other events than those of the segment before it.

    before: first sequence and events of that segment; events that it lacks are read from `registry`. base: names the
    archive that `registry` was unpacked from, for the error.
    """
    previous = current.header.previous
    if previous is None:
        return
    first, lines = before
    if _holds_previous(current, before):
        sha256 = segment.sha256_of(lines[previous.first - first : previous.last - first + 1])
    else:
        digest = hashlib.sha256()
        for _, value in registry.events(previous.first - 1, previous.last):
            digest.update(value + b"\n")
        sha256 = digest.hexdigest()
    if previous.last != current.first - 1 or sha256 != previous.sha256:
        raise JournalDamaged(
            f"{current.path} was written after other events {previous.first} to {previous.last} than those here",
            hint="a segment or an archive was replaced; GET /api/backup/timeline shows what else can be restored",
            segment=str(current.path),
            **base,
        )


def _check_overlap(
    current: Segment, lines: Sequence[bytes], registry: EventRegistry, last: int, base: Mapping[str, str]
) -> None:
    """Raise JournalDamaged if the segment and the registry have different events of the same sequence.

    A copy of the database that is used elsewhere stores other events in the same generation, and archives them.
    """
    if current.first <= last <= current.last and lines[last - current.first] != registry.at(last):
        raise JournalDamaged(
            f"{current.path} has another event {last} than {base.get('archive', 'the events before it')}",
            hint="one of them was replaced; GET /api/backup/timeline shows what else can be restored",
            segment=str(current.path),
            **base,
        )


def check_base(
    registry: EventRegistry, archive: str, journaled: tuple[str, int] | None, present: Mapping[int, str], base: int
) -> None:
    """Raise JournalDamaged if the database of an archive has another event than the journal or the open database.

    A replay compares only where it begins. But an archive may have events beyond the journal, or a plan may use nothing
    else. journaled: the path of a segment, and one of its events; ignored if the segment cannot be read. present: as in
    `replay`. base: how many events of the archive are used.
    """
    if journaled is not None:
        path, sequence = journaled
        line = _event_of(Path(path), sequence)
        if line is not None and line != registry.at(sequence):
            raise _differs(archive, sequence, path, segment=path, archive=archive)
    for sequence, sha256 in present.items():
        if sequence <= base and hashlib.sha256(registry.at(sequence)).hexdigest() != sha256:
            raise _differs(archive, sequence, "the present database", archive=archive)


def _check_present(path: Path, wanted: Sequence[bytes], first: int, present: Mapping[int, str]) -> None:
    """Raise JournalDamaged if a segment has another event than the open database.

    The journal of a copy of the installation, merged into this one, has segments of the same generation.
    """
    for sequence, sha256 in present.items():
        is_replayed = first <= sequence < first + len(wanted)
        if is_replayed and hashlib.sha256(wanted[sequence - first]).hexdigest() != sha256:
            raise _differs(str(path), sequence, "the present database", segment=str(path))


def _differs(file: str, sequence: int, other: str, **details: str) -> JournalDamaged:
    hint = "it was made by a copy of storage/ that was used elsewhere, or one of them was replaced"
    return JournalDamaged(f"{file} has another event {sequence} than {other}", hint=hint, **details)


def _event_of(path: Path, sequence: int) -> bytes | None:
    """Return an event of a segment; None if it cannot be read."""
    with suppress(JournalDamaged, OSError):
        source = segment.read_header(path)
        return segment.read_lines(source)[sequence - source.first]
    return None


def note_offsets(db: Any, kafka: Mapping[str, Mapping[str, Any]]) -> None:
    """Put Kafka's offsets, in the form of a segment's header or the journal's record."""
    with db.write_batch(transaction=True) as batch:
        for key, value in offsets.to_metadata(kafka).items():
            batch.put(key, value)


def _not_as_written(path: Path, sequence: int) -> JournalDamaged:
    return JournalDamaged(
        f"{path} is damaged: event {sequence} is not as it was written",
        hint="GET /api/backup/timeline shows the moments that can be restored without it",
        segment=str(path),
    )
