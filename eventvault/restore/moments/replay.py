"""A database brought to an event exactly: what lies beyond it is cut off, what is missing comes from segments.

On private copies only, without syncs: whoever keeps the result syncs it. Bulk writes of the keys that
`EventRegistry.append` makes (docs/format.md); a replayed event's append is named by zeros.
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
from eventvault.journal.writer import metadata_from_offsets

_BATCH = 2000
_WAITING_BYTES = 64 * 2**20
"""Twice the write buffer: what waits fills whole memtables."""
_REMEMBERED = 10_000
_NO_NONCE = bytes(keys.NONCE_BYTES)


class _Indexed(msgspec.Struct, gc=False):
    """The members of an event that keys are made of."""

    id: str
    source: str
    type: str
    sequence: int
    subject: str | None = None


_decode = msgspec.json.Decoder(_Indexed).decode


def cut(db: Any, registry: EventRegistry, upto: int) -> None:
    """Remove every event beyond `upto`, with its keys.

    LevelDB only marks what is deleted. Whoever looks for the last event would read all of it once more, and that is
    done while everybody waits for the database to be opened: hence the compaction of the events' own range.
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
    """Append the events of segments, in order, each up to the sequence beside its path; returns the last sequence.

    archive: the path of what the database was unpacked from. Every segment is checked against what comes before it.
    Raises JournalDamaged where one is damaged, forged, missing or does not continue what is there; with the `archive`
    too where that may be what is wrong.
    """
    last = registry.last_sequence
    writer = _Writer(db, registry.at(last)[RECORDED_TIME] if last else b"")
    before: tuple[int, Sequence[bytes]] = (0, ())
    base = {} if archive is None else {"archive": archive}
    for path, upto in segments:
        with _missing_said(path):
            found = segment.read_header(path)
        lines = lines_of(found)
        _check_previous(found, before, registry, base)
        _check_overlap(found, lines, registry, last, base)
        wanted = lines[max(0, last + 1 - found.first) : max(0, upto + 1 - found.first)]
        if found.first > last + 1:
            raise JournalDamaged(
                f"{path} does not continue event {last}", hint="a segment before it is missing", segment=str(path)
            )
        writer.append(path, last + 1, wanted)
        last += len(wanted)
        if found.last <= upto:
            note_offsets(db, found.header.kafka)
        before, base = (found.first, lines), {}
    writer.put_waiting()
    return last


def lines_of(found: Segment) -> list[bytes]:
    """All events of a segment, every byte checked. Raises JournalDamaged, also where the file is gone, or OSError."""
    with _missing_said(found.path):
        return segment.read_lines(found)


@contextmanager
def _missing_said(path: Path) -> Iterator[None]:
    """A segment may be merged into another, or removed, after it was seen."""
    try:
        yield
    except FileNotFoundError as error:
        raise JournalDamaged(
            f"{path} is missing", hint="GET /api/backup/timeline shows what is there", segment=str(path)
        ) from error


class _Writer:
    """Puts replayed events; their identities and indexes wait, so that LevelDB has little to merge.

    A memtable that overlaps no table becomes one that is not merged again (`Version::PickLevelForMemTableOutput` of
    LevelDB). Events come in the order of their keys, so those of a memtable do, unless keys of another kind are
    in it; those of one kind are put together, whenever `_WAITING_BYTES` of them wait, and at the end.
    """

    def __init__(self, db: Any, recorded: bytes) -> None:
        """recorded: `recordedtime` of the event before, as it is printed: the text sorts as the instants do."""
        self._db = db
        self._recorded = recorded
        self._prefixes = _Prefixes()
        self._identities: list[Any] = []
        self._indexes: list[Any] = []
        self._waiting_bytes = 0

    def append(self, path: Path, first: int, lines: Sequence[bytes]) -> None:
        """Raises JournalDamaged where a line of the segment `path` is not what comes next."""
        for start in range(0, len(lines), _BATCH):
            self._append(path, first + start, lines[start : start + _BATCH])
            if self._waiting_bytes >= _WAITING_BYTES:
                self.put_waiting()

    def put_waiting(self) -> None:
        """To be called at the end: all is in the database then."""
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
    """The index keys of an event without its sequence; the texts repeat, so what was made is remembered."""

    def __init__(self) -> None:
        self._types: dict[str, bytes] = {}
        self._sources: dict[str, bytes] = {}

    def of(self, event: _Indexed) -> list[bytes]:
        of_type = self._types.get(event.type) or _remembered(self._types, keys.TYPE, event.type)
        of_source = self._sources.get(event.source) or _remembered(self._sources, keys.SOURCE, event.source)
        if event.subject is None:
            return [of_type, of_source]
        return [of_type, of_source, keys.index_prefix(keys.SUBJECT, event.subject)]


def _remembered(known: dict[str, bytes], index: bytes, text: str) -> bytes:
    if len(known) >= _REMEMBERED:
        known.clear()
    known[text] = keys.index_prefix(index, text)
    return known[text]


def _keys_of(event: _Indexed, sequence: int) -> list[bytes]:
    """The event's own key, its identity, and its indexes."""
    number = sequence.to_bytes(8, "big")
    indexes = [prefix + number for prefix in _Prefixes().of(event)]
    return [keys.event_key(sequence), keys.identity_key(event.id, event.source), *indexes]


def _check_previous(
    found: Segment, before: tuple[int, Sequence[bytes]], registry: EventRegistry, base: Mapping[str, str]
) -> None:
    """Whether the segment was written after just these events: from the one read before, or from the database.

    base: what the error says of the archive that the latter is of.
    """
    said = found.header.previous
    if said is None:
        return
    first, lines = before
    if lines and first <= said.first and said.last < first + len(lines):
        there = segment.sha256_of(lines[said.first - first : said.last - first + 1])
    else:
        digest = hashlib.sha256()
        for _, value in registry.events(said.first - 1, said.last):
            digest.update(value + b"\n")
        there = digest.hexdigest()
    if said.last != found.first - 1 or there != said.sha256:
        raise JournalDamaged(
            f"{found.path} was written after other events {said.first} to {said.last} than those that are there",
            hint="a segment or an archive was replaced; GET /api/backup/timeline shows what else can be restored",
            segment=str(found.path),
            **base,
        )


def _check_overlap(
    found: Segment, lines: Sequence[bytes], registry: EventRegistry, last: int, base: Mapping[str, str]
) -> None:
    """Whether the last event that is there already is the segment's too, where the segment has it.

    A copy of the database that went on elsewhere has others of the same sequences, and archives of the same generation.
    """
    if found.first <= last <= found.last and lines[last - found.first] != registry.at(last):
        raise JournalDamaged(
            f"{found.path} has another event {last} than {base.get('archive', 'what is there')}",
            hint="one of them was replaced; GET /api/backup/timeline shows what else can be restored",
            segment=str(found.path),
            **base,
        )


def note_offsets(db: Any, kafka: Mapping[str, Mapping[str, Any]]) -> None:
    """Put offsets, as a segment's header or the journal's record has them."""
    with db.write_batch(transaction=True) as batch:
        for key, value in metadata_from_offsets(kafka).items():
            batch.put(key, value)


def _not_as_written(path: Path, sequence: int) -> JournalDamaged:
    return JournalDamaged(
        f"{path} is damaged: event {sequence} is not as it was written",
        hint="GET /api/backup/timeline shows the moments that can be restored without it",
        segment=str(path),
    )
