"""Writes segments with the events that neither a segment nor a verified archive holds yet.

Events that wait to be published are written even if an archive holds them: a restore may take them out of the
registry, and then they are read from segments only. Everything runs in the caller's thread. An append does nothing for
the journal: new events are read by sequence. A survey of the folders finds the events that they cover, so the events of
a file that was deleted by hand are written again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from eventvault.backups.entry import BackupEntry
from eventvault.damage import SYSTEM_ERRORS, is_damage
from eventvault.database import keys
from eventvault.database.bus import EventBus
from eventvault.database.generation import Generation, StoreIdentity, last_common, lineage
from eventvault.database.keyed_requests import StoredAnswer
from eventvault.database.outbox import count_of, first_events, joined
from eventvault.database.registry import EventRegistry
from eventvault.errors import JournalDamaged, JournalUnreadable
from eventvault.journal import coverage, segment
from eventvault.journal.dead_letters import DeadLettersFolder
from eventvault.journal.folder import JournalFolder, JournalRecord, QuarantinedSegment, segment_of
from eventvault.journal.segment import Content, EventRange, Segment, SegmentInfo
from eventvault.kafka import offsets
from eventvault.kafka.offsets import Offsets
from eventvault.system_errors import text_of

log = logging.getLogger("BackupManager")

SEGMENT_BYTES = 8 * 2**20
"""A segment ends after this many bytes of events, or of answers. This limits the memory that it takes."""

MAX_RECENT_EVENTS = 20_000
"""If the newest hole of a survey has fewer events than this, they count as just committed."""

MOST_WAITING_EVENTS = 100_000
"""The most events waiting to be published that one survey reads."""
_JOINED_EVENTS = 1000
"""Two waiting events get one segment, with all events between them, if their distance is at most this."""
FEW_RANGES = 50
"""The most ranges of waiting events that are written at once: each is a segment, and new events wait meanwhile."""


class Chunk(NamedTuple):
    """The events of one segment. published: as in the segment's header; None if unset there."""

    identity: StoreIdentity
    first: int
    content: Content
    published: int | None


class _Outbox(NamedTuple):
    """The state of the outbox. published, waiting_since: as in the journal's record; None if unset there."""

    published: int | None = None
    waiting_since: int | None = None


class Covered(NamedTuple):
    """All events of a generation and its ancestors up to `last` are in a segment or a verified archive."""

    generation: str
    last: int


class SegmentWriter:
    """For one thread at a time; any thread may read `covered`. entries: returns the archives in the catalogue.

    Segments of other installations are ignored: they may have different events in the same generation.
    """

    def __init__(
        self, folder: JournalFolder, bus: EventBus, installation: str, entries: Callable[[], list[BackupEntry]]
    ) -> None:
        self.folder = folder
        self.holes: list[coverage.Range] = []
        """The ranges up to `upto` that neither a segment nor an archive holds."""
        self.waiting: list[coverage.Range] = []
        """Ranges that only an archive holds, with events that wait to be published."""
        self.upto = 0
        """The last sequence at the newest poll or survey."""
        self.identity: StoreIdentity | None = None
        self.covered: Covered | None = None
        """None until the first survey."""
        self.lost: list[QuarantinedSegment] = []
        """Segments that are damaged or cannot be read, with events that nothing else holds."""
        self._bus = bus
        self._dead_letters = DeadLettersFolder(folder.root, installation, bus.using)
        self._installation = installation
        self._entries = entries
        self._surveyed = 0
        self._newest: Segment | None = None
        self._kafka: Offsets = {}
        """Kafka's offsets at `upto` or before it."""
        self._recorded: Offsets = {}
        """The offsets in the newest segment or the record."""
        self._outbox = _Outbox()
        self._recorded_outbox = _Outbox()
        """At the newest poll, and in the newest segment or the record."""

    def poll(self) -> bool:
        """Read the head of the database. Returns False if another generation began, so that a survey is needed."""
        identity, last, kafka = self._read_head()
        self._outbox = self._read_outbox(last)
        if self.identity is None or identity.generation != self.identity.generation or self._is_folder_gone():
            return False
        if kafka is not None:
            self._kafka = kafka
        if last > self.upto:
            first = self.holes.pop()[0] if self.has_recent() else self.upto + 1
            self.holes.append((first, last))
            began, self.upto = self.upto == 0, last
            self._update_covered()
            if began:
                self.save_record()  # from now on a recovery must not expect an empty registry
        elif (self._kafka, self._outbox) != (self._recorded, self._recorded_outbox) and not self.holes:
            self.save_record()  # offsets moved without an event, or events were published
        return True

    def survey(self) -> None:
        """Find the events that the folders cover, and write the journal's record.

        Raises OSError, BackupsUnavailable, NoSpace, or why the database is not open.
        """
        identity, last, kafka = self._read_head()
        self._outbox = self._read_outbox(last)
        segments, damaged = self.folder.segments()
        for error in damaged:
            self.folder.quarantine(error)
        unreadable = [segment_of(error) for error in damaged if isinstance(error, JournalUnreadable)]
        segments = self._without_superseded([s for s in segments if s.header.installation == self._installation])
        entries, generations = self._entries(), identity.by_id()
        archived = archived_prefix(entries, generations, identity.generation)
        current = lineage(generations, identity.generation)
        archived = min(archived, last)
        self.holes = coverage.missing(segments, current, archived, last)
        self.waiting = self._find_waiting(coverage.missing(segments, current, 0, archived))
        is_recent = bool(self.holes) and self.holes[-1][1] - self.holes[-1][0] < MAX_RECENT_EVENTS
        self.identity, self.upto, self._newest, self._kafka = identity, last, None, kafka or {}
        self._surveyed = self.holes[-1][0] - 1 if is_recent else last
        self._update_covered()
        self._dead_letters.tend()
        self.lost = self._find_lost([*self.folder.quarantined(), *unreadable], segments, entries, identity)
        self.save_record()

    def _find_waiting(self, archived: Iterable[coverage.Range]) -> list[coverage.Range]:
        """Return the ranges of events that wait to be published, within ranges that only archives hold."""
        ranges: list[coverage.Range] = []
        room = MOST_WAITING_EVENTS
        for first, last in archived:
            with self._bus.using() as registry:
                waiting = list(first_events(registry.outbox.runs(first - 1, last), room))
            room -= count_of(waiting)
            ranges += joined(waiting, apart=_JOINED_EVENTS)
        return ranges

    def _without_superseded(self, segments: list[Segment]) -> list[Segment]:
        """Return the segments without those whose events another one holds, and remove these from the disk.

        The other one is read first; if it is damaged, it is quarantined instead. If the events differ, both stay.
        """
        sources: dict[Path, list[Segment]] = {}
        for source, merged in coverage.superseded(segments):
            sources.setdefault(merged.path, []).append(source)
        removed: set[Path] = set()
        for merged in [other for other in segments if other.path in sources]:
            try:
                lines = segment.read_lines(merged)
            except JournalDamaged as error:
                self.folder.quarantine(error)
                removed.add(merged.path)
                continue
            unneeded = [
                source
                for source in sources[merged.path]
                if _has_same_lines(source, lines[source.first - merged.first :])
            ]
            self.folder.remove(unneeded)
            removed |= {source.path for source in unneeded}
        return [other for other in segments if other.path not in removed]

    def has_recent(self) -> bool:
        """Return True if events committed since the survey are missing. They are written before older events."""
        return bool(self.holes) and self.holes[-1][0] > self._surveyed

    def must_write(self, *, in_time: bool) -> bool:
        """Return True if events must be written now. in_time: also events that can wait."""
        return self.has_recent() or self._has_few_waiting() or (in_time and bool(self.holes or self.waiting))

    def _has_few_waiting(self) -> bool:
        ranges = self.waiting
        return 0 < len(ranges) <= FEW_RANGES and sum(last - first + 1 for first, last in ranges) <= MAX_RECENT_EVENTS

    def is_behind(self) -> bool:
        """Return True while events that the survey found missing are still being written."""
        return bool(self.holes) and not self.has_recent()

    def lacks_older(self) -> bool:
        """Return True if events that the survey found missing are not written yet."""
        return bool(self.holes) and self.holes[0][0] <= self._surveyed

    def write_next(self) -> bool:
        """Write one segment of missing events. Returns False if another generation began meanwhile."""
        is_recent = self.has_recent()
        ranges = self.holes if is_recent or (self.holes and not self._has_few_waiting()) else self.waiting
        index = len(ranges) - 1 if is_recent else 0
        first, last = ranges[index]
        chunk = self._read(first, last)
        if chunk is None:
            return False
        written = self._write(chunk)
        ranges[index : index + 1] = [(written.last + 1, last)] if written.last < last else []
        self._update_covered()
        return True

    def _read(self, first: int, last: int) -> Chunk | None:
        """Return the events to write; None if another generation began meanwhile."""
        with self._bus.using() as registry:
            if self.identity is None or registry.identity.generation != self.identity.generation:
                return None
            published = registry.outbox.published(registry.last_sequence)  # read first, because publishing continues
            return Chunk(registry.identity, first, _read_content(registry, first, last), published)

    def _read_head(self) -> tuple[StoreIdentity, int, Offsets | None]:
        """Return the identity, the last sequence, and Kafka's offsets at it; None for the offsets during a write.

        Offsets must never be ahead of the events: consumers would skip messages whose events are not stored. A write
        changes the database before `last_sequence`, so the offsets are valid only if there is no event after
        `last_sequence` once they were read. No lock is acquired: a swap pauses writes while it waits for the journal.
        """
        with self._bus.using() as registry:
            identity, last = registry.identity, registry.last_sequence
            kafka = offsets.from_metadata(registry.scan_meta(keys.KAFKA))
            ahead = list(registry.events(last, last + 1))
        self._dead_letters.write_new()  # after the offsets were read, and before they are written
        return identity, last, None if ahead else kafka

    def _read_outbox(self, last: int) -> _Outbox:
        with self._bus.using() as registry:
            first = next(registry.outbox.messages(), None)
            since = None if first is None else keys.recorded_of_message(first[0])
            return _Outbox(registry.outbox.published(last), since)

    def _write(self, chunk: Chunk) -> Segment:
        """Write one segment. It gets offsets only if it reaches `upto`; otherwise a later segment has them."""
        identity, (lines, answers, pending) = chunk.identity, chunk.content
        reaches = chunk.first + len(lines) - 1 == self.upto
        info = SegmentInfo(
            store_id=identity.store_id,
            installation=self._installation,
            generation=identity.present,
            first=chunk.first,
            previous=self._previous_range(identity.generation, chunk.first),
            kafka=self._kafka if reaches else {},
            published=_unset(chunk.published),
        )
        written = segment.write_segment(
            self.folder.generation_folder(identity.generation), info, lines, answers, pending
        )
        self._newest = written
        if reaches:
            self._recorded = self._kafka
        self._recorded_outbox = self._recorded_outbox._replace(published=chunk.published)
        return written

    def _previous_range(self, generation: str, first: int) -> EventRange | None:
        """Return the range of the segment that ends directly before `first`; None if there is none."""
        if self._newest is None or (self._newest.generation, self._newest.last) != (generation, first - 1):
            ours = self.folder.segments_of(self._installation)
            before = (other for other in ours if (other.generation, other.last) == (generation, first - 1))
            self._newest = next(before, None)
        return self._newest.header.event_range if self._newest else None

    def _find_lost(
        self,
        unusable: list[QuarantinedSegment],
        segments: list[Segment],
        entries: list[BackupEntry],
        identity: StoreIdentity,
    ) -> list[QuarantinedSegment]:
        generations = identity.by_id()
        recoverable = dict(lineage(generations, identity.generation))
        for generation in {damaged.generation for damaged in unusable}:
            archived = archived_prefix(entries, generations, generation)
            recoverable[generation] = max(recoverable.get(generation, 0), archived)
        return coverage.lost(unusable, segments, recoverable)

    def _is_folder_gone(self) -> bool:
        return self._newest is not None and not self._newest.path.parent.is_dir()

    def save_record(self) -> None:
        """Write the journal's record if it changed. Call it after the first survey. Raises NoSpace or OSError."""
        assert self.identity is not None
        record = JournalRecord(
            installation=self._installation,
            registry=self.identity,
            sequence=self.upto,
            kafka=self._kafka,
            published=_unset(self._outbox.published),
            waiting_since=_unset(self._outbox.waiting_since),
        )
        if self.folder.read_record() != record:
            self.folder.write_record(record)
        self._recorded, self._recorded_outbox = self._kafka, self._outbox

    def _update_covered(self) -> None:
        assert self.identity is not None
        last = self.holes[0][0] - 1 if self.holes else self.upto
        self.covered = Covered(self.identity.generation, last)


def _unset(number: int | None) -> int | msgspec.UnsetType:
    return msgspec.UNSET if number is None else number


def archived_prefix(entries: Iterable[BackupEntry], generations: Mapping[str, Generation], generation: str) -> int:
    """Return the sequence up to which verified archives made here hold a generation's lineage."""
    prefix = 0
    for entry in entries:
        if is_good(entry) and entry.generation and entry.generation in generations and entry.sequence is not None:
            common = last_common(generations, entry.generation, generation)
            prefix = max(prefix, min(entry.sequence, common))
    return prefix


def is_good(entry: BackupEntry) -> bool:
    """Return True for an archive that was made here, is verified and has no known problem."""
    return entry.origin == "created" and entry.origin_proven and entry.problem is None and entry.verified is not None


def _has_same_lines(source: Segment, lines: list[bytes]) -> bool:
    """Return True if the segment's lines are the first ones of `lines`."""
    return segment.sha256_of(lines[: source.last - source.first + 1]) == source.header.sha256


def _read_content(registry: EventRegistry, first: int, last: int) -> Content:
    """Return the events from `first` on that fit into a segment, with the answers to their requests.

    The events are read first: an answer is in the database as soon as its events are. Damaged answers cost no event.
    """
    lines, answers, room = _read_lines(registry, first, last), list[StoredAnswer](), SEGMENT_BYTES
    try:
        for answer in registry.answers(first, first + len(lines) - 1):
            room -= len(answer.record)
            if room < 0 and answers and answers[-1].sequence < answer.sequence:
                del lines[answer.sequence - first :]
                break
            answers.append(answer)
    except SYSTEM_ERRORS as error:
        if not is_damage(error):
            raise
        log.warning("answers to requests with an Idempotency-Key are not in the journal: %s", text_of(error))
    pending = joined(registry.outbox.runs(first - 1, first + len(lines) - 1))
    return Content(lines, answers, pending)


def _read_lines(registry: EventRegistry, first: int, last: int) -> list[bytes]:
    lines: list[bytes] = []
    room = SEGMENT_BYTES
    with registry.event_values(first - 1, last) as values:
        for value in values:
            lines.append(value)
            room -= len(value)
            if room <= 0:
                break
    return lines
