"""Writes segments: what the database holds and neither a segment nor a verified archive does yet.

All in the caller's thread, and nothing is done for a single append: new events are read by their sequence. What is
covered is found anew from the folders, so an archive or a segment that was deleted by hand is made up for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from eventvault.backups.entry import BackupEntry
from eventvault.database import keys
from eventvault.database.bus import EventBus
from eventvault.database.generation import Generation, StoreIdentity, last_common, lineage
from eventvault.database.registry import EventRegistry
from eventvault.errors import JournalDamaged
from eventvault.journal import coverage, segment
from eventvault.journal.folder import JournalFolder, JournalRecord, QuarantinedSegment, is_unreadable, segment_of
from eventvault.journal.segment import EventRange, Segment, SegmentInfo
from eventvault.kafka import offsets

SEGMENT_BYTES = 8 * 2**20
"""A segment is ended when it holds this much, so that one takes little memory at any number of events."""

Offsets = dict[str, dict[str, Any]]
"""Topic → partition → what is kept of it."""

MAX_RECENT_EVENTS = 20_000
"""What a survey finds missing counts as committed just now, when it is no more than this."""


class Chunk(NamedTuple):
    """Events that were read and are to be written."""

    identity: StoreIdentity
    first: int
    lines: list[bytes]


class Covered(NamedTuple):
    """Up to `last` all events of a generation, and of what it forks from, are in a segment or a verified archive."""

    generation: str
    last: int


class SegmentWriter:
    """One thread at a time, but `covered` may be read from any. entries: what the catalogue says of the archives.

    Segments of other installations count for nothing: they may have gone on from the same generation with other events.
    """

    def __init__(
        self, folder: JournalFolder, bus: EventBus, installation: str, entries: Callable[[], list[BackupEntry]]
    ) -> None:
        self.folder = folder
        self.holes: list[coverage.Range] = []
        """What is covered by nothing, up to `upto`."""
        self.upto = 0
        """Up to here the registry was looked at."""
        self.identity: StoreIdentity | None = None
        self.covered: Covered | None = None
        """None until the first survey."""
        self.lost: list[QuarantinedSegment] = []
        """Segments that are damaged, or cannot be read, and held what nothing else has."""
        self._bus = bus
        self._installation = installation
        self._entries = entries
        self._surveyed = 0
        self._newest: Segment | None = None
        self._kafka: Offsets = {}
        """Offsets that stand at `upto`, or before it."""
        self._recorded: Offsets = {}
        """Those that the newest segment or the record has."""

    def poll(self) -> bool:
        """Take notice of what was committed since. False where `survey` must come first: another generation began."""
        identity, last, kafka = self._read_head()
        if self.identity is None or identity.generation != self.identity.generation or self._folder_is_gone():
            return False
        if kafka is not None:
            self._kafka = kafka
        if last > self.upto:
            first = self.holes.pop()[0] if self.has_recent() else self.upto + 1
            self.holes.append((first, last))
            began, self.upto = self.upto == 0, last
            self._publish()
            if began:
                self.save_record()  # from now on it is not to be taken for an empty one
        elif self._kafka != self._recorded and not self.holes:
            self.save_record()  # offsets that moved without an event
        return True

    def survey(self) -> None:
        """Find out from the folders what is covered, and keep a record of the present generation.

        Raises OSError, BackupsUnavailable, NoSpace, or why the database is not open.
        """
        identity, last, kafka = self._read_head()
        found, damaged = self.folder.segments()
        for error in damaged:
            self.folder.quarantine(error)
        unreadable = [segment_of(error) for error in damaged if is_unreadable(error)]
        found = self._without_superseded([e for e in found if e.header.installation == self._installation])
        entries, known = self._entries(), identity.by_id()
        archived = archived_prefix(entries, known, identity.generation)
        self.holes = coverage.missing(found, lineage(identity.by_id(), identity.generation), min(archived, last), last)
        few = bool(self.holes) and self.holes[-1][1] - self.holes[-1][0] < MAX_RECENT_EVENTS
        self.identity, self.upto, self._newest, self._kafka = identity, last, None, kafka or {}
        self._surveyed = self.holes[-1][0] - 1 if few else last
        self._publish()
        self.lost = self._find_lost([*self.folder.quarantined(), *unreadable], found, entries, identity)
        self.save_record()

    def _without_superseded(self, found: list[Segment]) -> list[Segment]:
        """Remove what another segment holds too, once that was read; one that is damaged is set aside instead.

        Where the two have different events both stay: neither is needless.
        """
        by_instead: dict[Path, list[Segment]] = {}
        for each, instead in coverage.superseded(found):
            by_instead.setdefault(instead.path, []).append(each)
        gone: set[Path] = set()
        for instead in [each for each in found if each.path in by_instead]:
            try:
                lines = segment.read_lines(instead)
            except JournalDamaged as error:
                self.folder.quarantine(error)
                gone.add(instead.path)
                continue
            needless = [
                each for each in by_instead[instead.path] if _has_same_lines(each, lines[each.first - instead.first :])
            ]
            self.folder.remove(needless)
            gone |= {each.path for each in needless}
        return [each for each in found if each.path not in gone]

    def has_recent(self) -> bool:
        """Whether what was committed since the survey is missing; it comes before what was missing then."""
        return bool(self.holes) and self.holes[-1][0] > self._surveyed

    def is_behind(self) -> bool:
        """Whether what the survey found missing is still being written."""
        return bool(self.holes) and not self.has_recent()

    def write_next(self) -> bool:
        """Write one segment of what is missing; False where another generation began meanwhile."""
        place = len(self.holes) - 1 if self.has_recent() else 0
        first, last = self.holes[place]
        chunk = self._read(first, last)
        if chunk is None:
            return False
        written = self._write(chunk)
        self.holes[place : place + 1] = [(written.last + 1, last)] if written.last < last else []
        self._publish()
        return True

    def _read(self, first: int, last: int) -> Chunk | None:
        """None where another generation began meanwhile."""
        with self._bus.using() as registry:
            if self.identity is None or registry.identity.generation != self.identity.generation:
                return None
            return Chunk(registry.identity, first, _read_lines(registry, first, last))

    def _read_head(self) -> tuple[StoreIdentity, int, Offsets | None]:
        """The identity, the last sequence, and the offsets at it; None where a write is just being done.

        Offsets must never run ahead of events: Kafka would go on behind what nothing holds. A write shows in the
        database before it does in `last_sequence`, so they count where no event beyond that is there after they were
        read. No lock is taken: a swap holds back writes while it waits for the journal.
        """
        with self._bus.using() as registry:
            identity, last = registry.identity, registry.last_sequence
            kafka = offsets_from_metadata(registry.scan_meta(keys.KAFKA))
            ahead = list(registry.events(last, last + 1))
        return identity, last, None if ahead else kafka

    def _write(self, chunk: Chunk) -> Segment:
        """With the offsets where it reaches `upto`; what ends before that has none, and they are taken from others."""
        identity = chunk.identity
        reaches = chunk.first + len(chunk.lines) - 1 == self.upto
        about = SegmentInfo(
            store_id=identity.store_id,
            installation=self._installation,
            generation=identity.present,
            first=chunk.first,
            previous=self._previous_range(identity.generation, chunk.first),
            kafka=self._kafka if reaches else {},
        )
        written = segment.write_segment(self.folder.generation_folder(identity.generation), about, chunk.lines)
        self._newest = written
        if reaches:
            self._recorded = self._kafka
        return written

    def _previous_range(self, generation: str, first: int) -> EventRange | None:
        """The segment that ends where the one that begins with `first` begins."""
        if self._newest is None or (self._newest.generation, self._newest.last) != (generation, first - 1):
            ours = self.folder.segments_of(self._installation)
            before = (each for each in ours if (each.generation, each.last) == (generation, first - 1))
            self._newest = next(before, None)
        return self._newest.header.event_range if self._newest else None

    def _find_lost(
        self,
        useless: list[QuarantinedSegment],
        found: list[Segment],
        entries: list[BackupEntry],
        identity: StoreIdentity,
    ) -> list[QuarantinedSegment]:
        known = identity.by_id()
        kept = dict(lineage(known, identity.generation))
        for each in useless:
            archived = archived_prefix(entries, known, each.generation)
            kept[each.generation] = max(kept.get(each.generation, 0), archived)
        return coverage.lost(useless, found, kept)

    def _folder_is_gone(self) -> bool:
        """Whether the folder that was written to is gone."""
        return self._newest is not None and not self._newest.path.parent.is_dir()

    def save_record(self) -> None:
        """Have the journal's record say what was looked at last; after the first survey. Raises NoSpace or OSError."""
        assert self.identity is not None
        record = JournalRecord(
            installation=self._installation, registry=self.identity, sequence=self.upto, kafka=self._kafka
        )
        if self.folder.read_record() != record:
            self.folder.write_record(record)
        self._recorded = self._kafka

    def _publish(self) -> None:
        assert self.identity is not None
        last = self.holes[0][0] - 1 if self.holes else self.upto
        self.covered = Covered(self.identity.generation, last)


def archived_prefix(entries: Iterable[BackupEntry], known: Mapping[str, Generation], generation: str) -> int:
    """How far archives that were made here and found good hold a generation's lineage."""
    prefix = 0
    for entry in entries:
        if is_good(entry) and entry.generation and entry.generation in known and entry.sequence is not None:
            common = last_common(known, entry.generation, generation)
            prefix = max(prefix, min(entry.sequence, common))
    return prefix


def is_good(entry: BackupEntry) -> bool:
    return entry.origin == "created" and entry.problem is None and entry.verified is not None


def offsets_from_metadata(notes: Mapping[bytes, bytes]) -> Offsets:
    """The offsets among a registry's notes, as topic → partition → what is kept of it."""
    found: Offsets = {}
    for key, value in notes.items():
        topic, partition = key[len(keys.KAFKA) : -5].decode(), int.from_bytes(key[-4:], "big")
        found.setdefault(topic, {})[str(partition)] = msgspec.json.decode(value)
    return found


def metadata_from_offsets(kafka: Mapping[str, Mapping[str, Any]]) -> dict[bytes, bytes]:
    """The notes that `offsets_from_metadata` read."""
    return {
        offsets.offset_key(topic, int(partition)): msgspec.json.encode(value)
        for topic, partitions in kafka.items()
        for partition, value in partitions.items()
    }


def _has_same_lines(each: Segment, lines: list[bytes]) -> bool:
    """Whether a segment has the first of these lines."""
    return segment.sha256_of(lines[: each.last - each.first + 1]) == each.header.sha256


def _read_lines(registry: EventRegistry, first: int, last: int) -> list[bytes]:
    lines: list[bytes] = []
    room = SEGMENT_BYTES
    for _, value in registry.events(first - 1, last):
        lines.append(value)
        room -= len(value)
        if room <= 0:
            break
    return lines
