"""Replays into the open database the events that it lost and that archives and journal have.

It replays only what continues the database without a hole, and has the same bytes of the events that both have. The
last events of a segment are in one write with the Kafka offsets after them, so a kill at any instant leaves a prefix of
the history.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
import plyvel

from eventvault import data_folders
from eventvault.archive.proof import Proof
from eventvault.backups.entry import BackupEntry
from eventvault.chores import Chores
from eventvault.damage import is_damage
from eventvault.database import keyed_requests, keys, outbox
from eventvault.database.generation import StoreIdentity
from eventvault.database.keyed_requests import StoredAnswer
from eventvault.database.opening import open_checked
from eventvault.database.outbox import Runs, joined
from eventvault.database.registry import EventRegistry
from eventvault.errors import Cancelled, EventVaultError
from eventvault.events import event
from eventvault.files import remove_durably
from eventvault.journal.segment import Segment, published_of
from eventvault.kafka import offsets
from eventvault.restore.moments.build_chore import Order
from eventvault.restore.moments.plan import Sources
from eventvault.restore.moments.replay import content_of, lines_of, recorded_puts
from eventvault.restore.unpacked import ArchiveFacts

log = logging.getLogger("BackupManager")

_BATCH_EVENTS = 2000
_BATCH_BYTES = 8 * 2**20


class _Part(NamedTuple):
    """Consecutive events from `first` on, with the answers to their requests.

    offsets: Kafka's keys and values after the last one. pending: the events that are to be published.
    """

    name: str
    first: int
    lines: Sequence[bytes]
    answers: Sequence[StoredAnswer]
    offsets: dict[bytes, bytes]
    pending: Runs


class HeadReplay:
    """Replays into one database. storage_dir: where archives are unpacked. proof: proves which archives are ours."""

    def __init__(
        self, storage_dir: Path, chores: Chores, registry: EventRegistry, sources: Sources, proof: Proof
    ) -> None:
        self._storage_dir = storage_dir
        self._chores = chores
        self._registry = registry
        self._proof = proof
        self._archived = 0
        """The last event, if it was replayed from an archive."""
        generation = registry.identity.generation
        self._segments = [segment for segment in sources.segments if segment.generation == generation]
        self._archives = [entry for entry in sources.archives if entry.generation == generation and entry.origin_proven]
        self._published = published_of(segment.header for segment in self._segments) or 0

    def run(self) -> None:
        """Replay as much as possible. Skips what cannot be read or does not continue the database.

        Raises OSError or plyvel.Error if the database cannot be written, and Cancelled.
        """
        while source := self._next():
            try:
                for part in self._parts(source):
                    if not self._continues(part):
                        log.error("%s does not continue the database at event %s: it is not replayed", part.name,
                                  self._registry.last_sequence)  # fmt: skip
                        break
                    self._append(part)
                    self._archived = self._registry.last_sequence if isinstance(source, BackupEntry) else 0
            except Cancelled:
                raise
            except (EventVaultError, ValueError, plyvel.Error) as error:
                if isinstance(error, plyvel.Error) and not is_damage(error):
                    raise
                log.warning("a source of missing events is not replayed: %s", error)

    def _next(self) -> Segment | BackupEntry | None:
        """Return the next source that has the event after the last one, each source once; segments first."""
        last = self._registry.last_sequence
        for segment in self._segments:
            if segment.first <= last + 1 <= segment.last:
                self._segments.remove(segment)
                return segment
        for entry in sorted(self._archives, key=lambda entry: entry.sequence or 0, reverse=True):
            if (entry.sequence or 0) > last:
                self._archives.remove(entry)
                return entry
        return None

    def _parts(self, source: Segment | BackupEntry) -> Iterator[_Part]:
        if isinstance(source, BackupEntry):
            yield from self._parts_of_archive(source)
            return
        lines, answers, pending = content_of(source)
        if self._is_preceded(source):
            kafka = offsets.to_metadata(source.header.kafka)
            yield _Part(str(source.path), source.first, lines, answers, kafka, pending)
        else:
            log.error("%s was written after other events than the database has: it is not replayed", source.path)

    def _is_preceded(self, source: Segment) -> bool:
        """Return whether the database has the events after which the segment was written."""
        last, previous = self._registry.last_sequence, source.header.previous
        if source.first <= last or last == 0:
            return True  # `_continues` compares the events that both have
        if previous is not None:
            return previous.last == last and self._sha256(previous.first, last) == previous.sha256
        if any(self._holds_last(other) for other in self._segments if other.first <= last <= other.last):
            return True
        return self._archived == last or any(
            self._agrees(entry) for entry in self._archives if (entry.sequence or 0) >= last
        )

    def _agrees(self, entry: BackupEntry) -> bool:
        """Return whether an archive has the database's last event."""
        with closing(self._parts_of_archive(entry)) as parts:
            return self._continues(next(parts))

    def _holds_last(self, other: Segment) -> bool:
        last = self._registry.last_sequence
        return lines_of(other)[last - other.first] == self._registry.at(last)

    def _sha256(self, first: int, last: int) -> str:
        digest = hashlib.sha256()
        for _, value in self._registry.events(first - 1, last):
            digest.update(value + b"\n")
        return digest.hexdigest()

    def _parts_of_archive(self, entry: BackupEntry) -> Generator[_Part]:
        last = self._registry.last_sequence
        with unpacked_archive(self._storage_dir, self._chores, self._registry.identity, entry, self._proof) as archived:
            kafka = archived.scan_meta(keys.KAFKA)
            for first in range(max(1, last), archived.last_sequence + 1, _BATCH_EVENTS):
                upto = min(first + _BATCH_EVENTS - 1, archived.last_sequence)
                lines = [value for _, value in archived.events(first - 1, upto)]
                answers = list(archived.answers(first, upto))
                pending = joined(archived.outbox.runs(first - 1, upto))
                is_last = upto == archived.last_sequence
                yield _Part(entry.name, first, lines, answers, kafka if is_last else {}, pending)

    def _continues(self, part: _Part) -> bool:
        """Return whether the part begins at the next event or before it, and both have the same events until there."""
        last = self._registry.last_sequence
        common = part.lines[: max(0, last + 1 - part.first)]
        events = [value for _, value in self._registry.events(part.first - 1, part.first - 1 + len(common))]
        return part.first <= last + 1 and events == list(common)

    def _append(self, part: _Part) -> None:
        last = self._registry.last_sequence
        lines = part.lines[last + 1 - part.first :]
        while lines:
            count = _fitting(lines)
            puts = [put for number, line in enumerate(lines[:count], last + 1) for put in recorded_puts(line, number)]
            if count == len(lines):
                puts += part.offsets.items()
            brought = (answer for answer in part.answers if last < answer.sequence <= last + count)
            puts += [put for answer in brought for put in keyed_requests.key_values_of_stored(answer)]
            puts += outbox.key_values_of(part.pending, max(last, self._published), last + count)
            last += count
            self._registry.append_recorded(puts, last, event.recorded_of(lines[count - 1]))
            lines = lines[count:]


@contextmanager
def unpacked_archive(
    storage_dir: Path, chores: Chores, identity: StoreIdentity, entry: BackupEntry, proof: Proof
) -> Iterator[EventRegistry]:
    """Unpack an archive of the current generation beneath `storage_dir`, and yield its events.

    Raises an ArchiveError for one that is damaged or not proven by `proof`, NoSpace, or Cancelled.
    """
    staging = storage_dir / f"{data_folders.RESTORING_PREFIX}{secrets.token_hex(4)}"
    order = Order(
        staging=str(staging), archive=entry.path, facts=ArchiveFacts.of(entry, proof),
        base=entry.sequence or 0, sequence=entry.sequence, generation=identity.generation,
        store_id=identity.store_id, generations=list(identity.generations),
    )  # fmt: skip
    try:
        chores.run("prepare_moment", order=msgspec.to_builtins(order))
        database = staging / data_folders.DATABASE
        with closing(open_checked(database)) as db:
            yield EventRegistry(db, database)
    finally:
        remove_durably(staging)


def _fitting(lines: Sequence[bytes]) -> int:
    """Return how many of the events fit into one write, at least one."""
    total = 0
    for count, line in enumerate(lines[:_BATCH_EVENTS]):
        total += len(line)
        if total > _BATCH_BYTES:
            return max(1, count)
    return min(len(lines), _BATCH_EVENTS)
