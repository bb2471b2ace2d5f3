"""Brings a database to an exact event: cuts off the later ones, and replays missing ones from segments.

For private copies only, without syncs: the caller syncs the result. It writes the keys that `EventRegistry.append`
writes (docs/format.md) in bulk; the nonce of a replayed event is all zeros.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from eventvault.database import keys
from eventvault.database.registry import EventRegistry
from eventvault.errors import JournalDamaged
from eventvault.events.event import RECORDED_TIME
from eventvault.journal import segment
from eventvault.journal.segment import Segment
from eventvault.kafka import offsets

_BATCH = 2000
_WAITING_BYTES = 64 * 2**20
"""Twice the write buffer: what waits fills whole memtables."""
_CACHED = 10_000
_NO_NONCE = bytes(keys.NONCE_BYTES)


class _Indexed(msgspec.Struct, gc=False):
    """The members of an event that are part of its keys."""

    id: str
    source: str
    type: str
    sequence: int
    subject: str | None = None


_decode = msgspec.json.Decoder(_Indexed).decode


def cut(db: Any, registry: EventRegistry, upto: int) -> None:
    """Remove every event after `upto`, with its keys.

    LevelDB only marks what is deleted, and finding the last event would read all of it again while everybody waits for
    the database to be opened. So the range of the events is compacted here.
    """
    last = registry.last_sequence
    batch, waiting = db.write_batch(), 0
    for sequence, value in registry.events(upto, last):
        for key in _keys_of(_decode(value), sequence):
            batch.delete(key)
        waiting += 1
        if waiting == _BATCH:
            batch.write()
            batch, waiting = db.write_batch(), 0
    batch.write()
    db.compact_range(start=keys.event_key(upto + 1), stop=keys.event_key(last + 1))


def replay(
    db: Any, registry: EventRegistry, segments: Iterable[tuple[Path, int]], *, archive: str | None = None
) -> int:
    """Append the events of segments, in order, each up to the sequence beside its path; return the last sequence.

    archive: the path of the archive that the database was unpacked from. Checks every segment against the events before
    it. Raises JournalDamaged if a segment is damaged, forged, missing, or does not continue the events before it; the
    error names the `archive` too if that may be wrong instead.
    """
    last = registry.last_sequence
    writer = _Writer(db, registry.at(last)[RECORDED_TIME] if last else b"")
    before: tuple[int, Sequence[bytes]] = (0, ())
    base = {} if archive is None else {"archive": archive}
    for path, upto in segments:
        with _missing_is_damage(path):
            current = segment.read_header(path)
        lines = lines_of(current)
        _check_previous(current, before, registry, base)
        _check_overlap(current, lines, registry, last, base)
        wanted = lines[max(0, last + 1 - current.first) : max(0, upto + 1 - current.first)]
        if current.first > last + 1:
            raise JournalDamaged(
                f"{path} does not continue event {last}", hint="a segment before it is missing", segment=str(path)
            )
        writer.append(path, last + 1, wanted)
        last += len(wanted)
        if current.last <= upto:
            note_offsets(db, current.header.kafka)
        before, base = (current.first, lines), {}
    writer.put_waiting()
    return last


def lines_of(source: Segment) -> list[bytes]:
    """All events of a segment, every byte checked. Raises JournalDamaged, also if the file is missing, or OSError."""
    with _missing_is_damage(source.path):
        return segment.read_lines(source)


@contextmanager
def _missing_is_damage(path: Path) -> Iterator[None]:
    """Raise JournalDamaged for a missing file: compaction or rotation may remove a segment after it was listed."""
    try:
        yield
    except FileNotFoundError as error:
        raise JournalDamaged(
            f"{path} is missing", hint="GET /api/backup/timeline shows what is there", segment=str(path)
        ) from error


class _Writer:
    """Puts replayed events at once, and their identities and indexes later, so that LevelDB has little to merge.

    LevelDB does not merge a table if its memtable overlapped no other one (`Version::PickLevelForMemTableOutput`).
    Events come in the order of their keys, so their memtables do not overlap unless keys of other kinds are in them.
    Those of each kind are put together, whenever `_WAITING_BYTES` of them wait, and at the end.
    """

    def __init__(self, db: Any, recorded: bytes) -> None:
        """recorded: `recordedtime` of the event before, as text, which sorts as the instants do."""
        self._db = db
        self._recorded = recorded
        self._prefixes = _Prefixes()
        self._identities: list[Any] = []
        self._indexes: list[Any] = []
        self._waiting_bytes = 0

    def append(self, path: Path, first: int, lines: Sequence[bytes]) -> None:
        """Put the events of the segment `path`. Raises JournalDamaged if a line is not the next event."""
        for start in range(0, len(lines), _BATCH):
            self._append(path, first + start, lines[start : start + _BATCH])
            if self._waiting_bytes >= _WAITING_BYTES:
                self.put_waiting()

    def put_waiting(self) -> None:
        """Put what waits; call it at the end."""
        for waiting in (self._identities, self._indexes):
            for batch in waiting:
                batch.write()
            waiting.clear()
        self._waiting_bytes = 0

    def _append(self, path: Path, first: int, lines: Sequence[bytes]) -> None:
        events, identities, indexes = (self._db.write_batch() for _ in range(3))
        put_event, put_identity, put_index = events.put, identities.put, indexes.put
        recorded, prefixes_of = self._recorded, self._prefixes.of
        for sequence, line in enumerate(lines, first):
            try:
                event = _decode(line)
            except msgspec.MsgspecError as error:
                raise _not_as_written(path, sequence) from error
            if event.sequence != sequence or line[RECORDED_TIME] < recorded:
                raise _not_as_written(path, sequence)
            recorded = line[RECORDED_TIME]
            number = sequence.to_bytes(8, "big")
            put_event(keys.EVENT + number, line)
            put_identity(keys.identity_key(event.id, event.source), number + _NO_NONCE)
            for prefix in prefixes_of(event):
                put_index(prefix + number, b"")
        self._recorded = recorded
        events.write()
        for batch, waiting in ((identities, self._identities), (indexes, self._indexes)):
            waiting.append(batch)
            self._waiting_bytes += batch.approximate_size()


class _Prefixes:
    """The index keys of an event without its sequence. Types and sources repeat, so their prefixes are cached."""

    def __init__(self) -> None:
        self._types: dict[str, bytes] = {}
        self._sources: dict[str, bytes] = {}

    def of(self, event: _Indexed) -> list[bytes]:
        of_type = self._types.get(event.type) or _cached(self._types, keys.TYPE, event.type)
        of_source = self._sources.get(event.source) or _cached(self._sources, keys.SOURCE, event.source)
        if event.subject is None:
            return [of_type, of_source]
        return [of_type, of_source, keys.index_prefix(keys.SUBJECT, event.subject)]


def _cached(cache: dict[str, bytes], index: bytes, text: str) -> bytes:
    if len(cache) >= _CACHED:
        cache.clear()
    cache[text] = keys.index_prefix(index, text)
    return cache[text]


def recorded_puts(line: bytes, sequence: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of an event as it was recorded. Raises ValueError if it is not that event."""
    event = _decode(line)
    if event.sequence != sequence:
        raise ValueError(f"event {sequence} says that it is event {event.sequence}")
    at_event, at_identity, *at_indexes = _keys_of(event, sequence)
    yield at_event, line
    yield at_identity, keys.identity_value(sequence, _NO_NONCE)
    yield from ((key, b"") for key in at_indexes)


def _keys_of(event: _Indexed, sequence: int) -> list[bytes]:
    """The event's own key, its identity, and its indexes."""
    number = sequence.to_bytes(8, "big")
    indexes = [prefix + number for prefix in _Prefixes().of(event)]
    return [keys.event_key(sequence), keys.identity_key(event.id, event.source), *indexes]


def _check_previous(
    current: Segment, before: tuple[int, Sequence[bytes]], registry: EventRegistry, base: Mapping[str, str]
) -> None:
    """Raise JournalDamaged if the segment was written after other events than those of the segment before it.

    before: first sequence and events of that segment; what it lacks is read from `registry`. base: the error's detail
    about the archive that `registry` was unpacked from.
    """
    previous = current.header.previous
    if previous is None:
        return
    first, lines = before
    if lines and first <= previous.first and previous.last < first + len(lines):
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
    """Raise JournalDamaged if the segment has another event than the registry where both overlap.

    A copy of the database that is used elsewhere has other events of the same sequences, and makes archives of the same
    generation.
    """
    if current.first <= last <= current.last and lines[last - current.first] != registry.at(last):
        raise JournalDamaged(
            f"{current.path} has another event {last} than {base.get('archive', 'the events before it')}",
            hint="one of them was replaced; GET /api/backup/timeline shows what else can be restored",
            segment=str(current.path),
            **base,
        )


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
