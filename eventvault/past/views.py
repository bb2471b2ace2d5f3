"""Views: resolve a moment to a database and the last sequence to read in it.

In one lineage a moment is a prefix: all events up to a sequence, which is found by `recordedtime`, because that never
decreases. So most moments are read from the current database, at no cost. Events of an earlier generation are read from
its previous database, or otherwise from a database that is built for the readers. An archive is unpacked if nothing
else has its events.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from eventvault import clock, data_folders
from eventvault.backups.catalogue import Catalogue
from eventvault.backups.entry import BackupEntry
from eventvault.chores import Chores
from eventvault.database.bus import EventBus
from eventvault.database.generation import StoreIdentity, is_id
from eventvault.database.large_reads import LARGE_READS
from eventvault.database.registry import EventRegistry
from eventvault.errors import GenerationSuperseded, MomentUnavailable
from eventvault.events import event
from eventvault.files import FileIdentity
from eventvault.past.diff import diff_page
from eventvault.past.pool import PastDatabasePool
from eventvault.past.single_flight import SingleFlight
from eventvault.past.values import DiffPage, DiffQuery, PastView
from eventvault.restore.moments.build import MomentBuilder
from eventvault.restore.moments.unavailable import unavailable
from eventvault.restore.unpacked import ArchiveFacts
from eventvault.restore.values import Moment

_MAX_RESOLVED = 1000
"""Resolved moments to remember, so that the next page of a moment need not resolve it again."""

_UNPACKED = "archive-"
"""Prefix of the keys of databases that were unpacked from an archive."""
_BUILT = re.compile(r"moment-([0-9a-f]{16})-([0-9]{0,19})-([0-9]{0,19})")
"""The key of a database that was built for a moment. The key names the moment, so any store can build it again."""


class Views:
    """Resolves moments, and builds databases for those that need one. Safe to use from many threads."""

    def __init__(
        self,
        bus: EventBus,
        catalogue: Catalogue,
        chores: Chores,
        past: PastDatabasePool,
        builder: MomentBuilder,
        now: clock.Clock = clock.now,
    ) -> None:
        self._bus = bus
        self._catalogue = catalogue
        self._chores = chores
        self._past = past
        self._builder = builder
        self._now = now
        self._single_flight = SingleFlight(past)
        self._resolved: dict[Moment, Moment] = {}

    def resolve_moment(self, moment: Moment) -> PastView:
        """See `eventvault.store.ports.past_reader.PastReader.resolve_moment`."""
        if moment.archive is not None:
            return self._in_archive(self._catalogue.entry(moment.archive))
        self._wait_for_writers(moment)
        with self._bus.using() as registry:
            view = self._in_current(registry, moment)
            identity = registry.identity
        return view or self._in_earlier(identity, moment)

    def build_again(self, view: str) -> None:
        """Build the database of the `PastView` with this generation again, unless it is open here.

        It may have been closed to make room for others, or built by another store, whose operation this one continues.
        For any other text nothing is built: its reader refuses it.
        """
        if is_id(view) or self._past.has(view):
            return
        moment = _moment_of(view)
        if moment is not None:
            self._build(view, moment)
        elif view.startswith(_UNPACKED):
            for entry in self._catalogue.entries():
                with suppress(FileNotFoundError):
                    if _key_of_archive(entry) == view:
                        self._unpack_archive(entry)

    def diff(self, query: DiffQuery) -> DiffPage:
        """See `eventvault.store.ports.past_reader.PastReader.diff`."""
        for view in (query.one, query.other):
            self.build_again(view.generation)
        with LARGE_READS.turn(), self._bus.using() as registry:
            identity = registry.identity
            with (
                self._past.in_use(query.one.generation, query.other.generation),
                self._reading(registry, query.one) as one,
                self._reading(registry, query.other) as other,
            ):
                common = min(_common(identity, query), query.one.sequence, query.other.sequence)
                return diff_page(query, one, other, common)

    def generation_of(self, view: str) -> str | None:
        """Return the generation of the events that a `ScanQuery` with this `generation` reads; None if unknown."""
        moment = _moment_of(view)
        return view if is_id(view) else None if moment is None else moment.generation

    @contextmanager
    def _reading(self, registry: EventRegistry, view: PastView) -> Iterator[EventRegistry]:
        """Yield the registry that has the view's events: `registry`, the current one, or a past database's."""
        common = registry.identity.last_common(view.generation)
        if common is not None and view.sequence <= common:
            yield registry
        elif self._past.has(view.generation):
            with self._past.reading(view.generation) as past:
                yield past
        else:
            name = f"generation {view.generation_id}" if view.generation_id else "the database unpacked from an archive"
            raise GenerationSuperseded(f"{name} is no longer available", hint="ask again")

    def _wait_for_writers(self, moment: Moment) -> None:
        """Wait for a running append: its events may have a recorded time already that belongs to the moment."""
        registry = self._bus.registry
        if moment.instant is not None and registry is not None and moment.instant >= registry.last_recorded:
            with self._bus.committer.paused():
                pass

    def _in_current(self, registry: EventRegistry, moment: Moment) -> PastView | None:
        """Return the moment as a view of the current database; None if that lacks events of the moment."""
        identity = registry.identity
        generation = _generation(identity, moment)
        common = identity.last_common(generation)
        if common is None:
            return None
        bound = min(common, registry.last_sequence)
        ends_here = generation == identity.generation or identity.is_complete_at(generation, bound)
        if ends_here or _lies_within(registry, moment, bound):
            return PastView(generation, self._upto(registry, generation, moment, bound))
        return None

    def _in_earlier(self, identity: StoreIdentity, moment: Moment) -> PastView:
        generation = _generation(identity, moment)
        if not (is_id(generation) and self._past.has(generation)):
            if generation not in identity.by_id():
                raise self._unknown_generation(identity, generation)
            return self._materialise(moment, generation)
        with self._past.reading(generation) as registry:
            return PastView(generation, self._upto(registry, generation, moment, registry.last_sequence))

    def _materialise(self, moment: Moment, generation: str) -> PastView:
        """Build the moment from archives and the journal, once for all readers of the same state."""
        resolved = self._resolved.get(moment)
        if resolved is None or not self._past.has(_key_of(resolved)):
            if len(self._resolved) >= _MAX_RESOLVED:
                self._resolved.clear()
            resolved = self._resolved[moment] = self._resolve(moment)
        key = _key_of(resolved)
        return PastView(key, self._build(key, resolved), generation)

    def _build(self, key: str, moment: Moment) -> int:
        """Return the last sequence of the database under `key`, and build the database if it is not open."""
        return self._single_flight.last_of(key, lambda staging: self._builder.materialise(moment, staging).folder)

    def _resolve(self, moment: Moment) -> Moment:
        """Return the moment by its sequence if the plan knows it, because many instants mean the same state."""
        if moment.sequence is not None:
            return moment
        target = self._builder.plan(moment).plan.target
        return msgspec.structs.replace(moment, sequence=target.sequence, instant=target.instant)

    def _upto(self, registry: EventRegistry, generation: str, moment: Moment, bound: int) -> int:
        """Return the last sequence of the moment. Raises MomentUnavailable if it is not in the window up to `bound`."""
        if moment.sequence is not None:
            if not 0 <= moment.sequence <= bound:
                raise self._outside(registry, generation, bound, f"event {moment.sequence} is not there", moment)
            return moment.sequence
        if moment.instant is None:
            return bound
        text = clock.format_microseconds(moment.instant)
        if moment.instant > max(self._now(), registry.last_recorded):  # the clock may have been set back
            raise self._outside(registry, generation, bound, f"{text} is in the future", moment)
        if moment.instant < _oldest(registry, generation):
            raise self._outside(registry, generation, bound, f"{text} is before the registry began", moment)
        return registry.first_recorded_at_or_after(moment.instant + 1, bound) - 1

    def _outside(
        self, registry: EventRegistry, generation: str, bound: int, why: str, moment: Moment
    ) -> MomentUnavailable:
        oldest = _instant_and_sequence(_oldest(registry, generation), 0)
        newest = _instant_and_sequence(
            event.recorded_of(registry.at(bound)) if bound else _oldest(registry, generation), bound
        )
        early = moment.instant is not None and moment.instant < _oldest(registry, generation)
        return unavailable(
            f"there is no such moment in generation {generation}: {why}",
            hint=f"ask for a moment from {oldest['time']} to {newest['time']}, or up to event {bound}",
            generation=generation,
            window={"oldest": oldest, "newest": newest},
            before=early or (moment.sequence is not None and moment.sequence < 0),
        )

    def _unknown_generation(self, identity: StoreIdentity, generation: str) -> MomentUnavailable:
        with self._bus.using() as registry:
            window = {
                "oldest": _instant_and_sequence(_oldest(registry, identity.generation), 0),
                "newest": _instant_and_sequence(registry.last_recorded, registry.last_sequence),
            }
        return unavailable(
            f"there is no such moment: the generation {generation[:80]} is unknown",
            hint="GET /api/backup/undo names the previous generations; leave the generation out for the present one",
            generation=identity.generation,
            window=window,
        )

    def _in_archive(self, entry: BackupEntry) -> PastView:
        """Return the view of an archive. Unpack and check it, unless it is proven ours and its events are stored."""
        if entry.is_ours and entry.generation is not None and entry.sequence is not None:
            try:
                return self.resolve_moment(Moment(sequence=entry.sequence, generation=entry.generation))
            except MomentUnavailable:
                pass
        return msgspec.structs.replace(self._unpack_archive(entry), of=entry.generation)

    def _unpack_archive(self, entry: BackupEntry) -> PastView:
        key = _key_of_archive(entry)

        def unpack(staging: Path) -> Path:
            facts = msgspec.to_builtins(ArchiveFacts.of(entry, self._catalogue.proof()))
            self._chores.run("prepare_restore", archive=entry.path, staging=str(staging), replaces=None, facts=facts)
            return staging / data_folders.DATABASE

        return PastView(key, self._single_flight.last_of(key, unpack))


def _common(identity: StoreIdentity, query: DiffQuery) -> int:
    """Return the last sequence that two views share; 0 for an unpacked archive, whose lineage is not trusted."""
    one, other = (
        view.generation if view.generation.startswith(_UNPACKED) else view.of or view.generation
        for view in (query.one, query.other)
    )
    return identity.last_common(other, one) or 0


def _key_of(moment: Moment) -> str:
    sequence, instant = ("" if number is None else number for number in (moment.sequence, moment.instant))
    return f"moment-{moment.generation}-{sequence}-{instant}"


def _moment_of(key: str) -> Moment | None:
    """Return the moment of a key that `_key_of` returned; None for any other text."""
    match = _BUILT.fullmatch(key)
    if match is None:
        return None
    generation, *numbers = match.groups()
    sequence, instant = (int(number) if number else None for number in numbers)
    moment = Moment(sequence=sequence, instant=instant, generation=generation)
    return moment if _key_of(moment) == key else None


def _key_of_archive(entry: BackupEntry) -> str:
    """Return the key of an archive's unpacked database. Raises FileNotFoundError if the archive is gone."""
    archive = Path(entry.path)
    file = FileIdentity.of(archive.stat())
    fingerprint = f"{archive.name}:{file.size}:{file.modified}:{file.inode}"
    return f"{_UNPACKED}{hashlib.sha256(fingerprint.encode()).hexdigest()[:16]}"


def _generation(identity: StoreIdentity, moment: Moment) -> str:
    return identity.generation if moment.generation is None else moment.generation


def _lies_within(registry: EventRegistry, moment: Moment, bound: int) -> bool:
    """Return whether the moment ends at or before event `bound`, so that no later event can belong to it."""
    if moment.sequence is not None:
        return moment.sequence <= bound
    return moment.instant is not None and bound > 0 and event.recorded_of(registry.at(bound)) > moment.instant


def _oldest(registry: EventRegistry, generation: str) -> int:
    """Return when the lineage of a generation began; at the latest the time of the first event."""
    began = registry.identity.origin_time(generation)
    return min(began, event.recorded_of(registry.at(1))) if registry.last_sequence else began


def _instant_and_sequence(instant: int, sequence: int) -> dict[str, Any]:
    return {"time": clock.format_microseconds(instant), "sequence": sequence}
