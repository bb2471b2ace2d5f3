"""Moments: found, planned, and made into a private database beside the live one.

A moment is a state of the registry: the events 1 to some sequence of a generation. Nothing here changes the live data.
"""

from __future__ import annotations

import bisect
from pathlib import Path
from typing import Any

import msgspec

from eventvault import clock, event
from eventvault.backups.archive import reader
from eventvault.backups.catalogue import Catalogue
from eventvault.backups.checkpoint import take_checkpoint
from eventvault.chores import Chores
from eventvault.errors import ArchiveError, BackupNotFound, JournalDamaged, MomentUnavailable, NoSpace
from eventvault.files import free_bytes, make_folder, remove_durably
from eventvault.journal import coverage, segment
from eventvault.journal.folder import JournalFolder
from eventvault.restore import plan as plans
from eventvault.restore.plan import Live, Plan, Sources, Target
from eventvault.restore.prepare import DATABASE_NAME
from eventvault.restore.prepare_moment import Order
from eventvault.settings import Settings
from eventvault.store.bus import EventBus
from eventvault.store.generation import Generation, StoreIdentity, last_common, lineage
from eventvault.store.interface import BackupEntry, Moment

_GROWTH = 2
"""A database takes at most about so many times the bytes of the events that are put into it."""


_TRIES = 3
_UNPACKED = 4
"""An archive that does not say how large it is when it is unpacked is taken to be so many times its size."""


class Materialised(msgspec.Struct, frozen=True):
    """A database of its own in `folder`, which nobody has open: the events 1 to `sequence` of `generation`."""

    folder: Path
    generation: str
    sequence: int


class Moments:
    """Safe to use from many threads. Methods may raise OSError and BackupsUnavailable where BACKUP_DIR is away."""

    def __init__(
        self, settings: Settings, bus: EventBus, catalogue: Catalogue, journal: JournalFolder, chores: Chores
    ) -> None:
        self._settings = settings
        self._bus = bus
        self._catalogue = catalogue
        self._journal = journal
        self._chores = chores

    def materialise(self, moment: Moment, staging: Path) -> Materialised:
        """The moment as a database in `staging/event_registry_db`, of the generation that it belongs to.

        staging: a folder below STORAGE_DIR that is not there yet; the caller removes it. On an error it is gone.
        Raises MomentUnavailable, NoSpace, or an ArchiveError for what is damaged.
        """
        sources = self.sources()
        way = self.plan(self.find(moment, sources), sources)
        answer = self.prepare(way, staging, sources, reason=None)
        return Materialised(staging / DATABASE_NAME, answer["generation"], answer["sequence"])

    def sources(self) -> Sources:
        """All that there is to restore from, at this moment."""
        identity, live = self._identity_and_live()
        segments, _ = self._journal.segments()
        known: dict[str, Generation] = {each.header.generation.id: each.header.generation for each in segments}
        record = self._journal.read_record()
        for each in (record.registry if record else None, identity):
            known |= each.by_id() if each is not None else {}
        entries = [entry for entry in self._catalogue.entries() if entry.problem is None and entry.generation]
        for entry in entries:
            if entry.generation not in known:
                known = {**self._generations_of(entry), **known}
        return Sources(known, entries, segments, live)

    def present(self, sources: Sources) -> str | None:
        """The generation of the open database; where none is open, the newest one that is known of."""
        if sources.live is not None:
            return sources.live.generation
        record = self._journal.read_record()
        recorded = record.registry.generation if record else None
        archived = [entry.generation for entry in sources.archives if entry.origin == "created" and entry.generation]
        journaled = [each.generation for each in sources.segments]
        candidates = [each for each in (recorded, *archived, *journaled) if each is not None and each in sources.known]
        return max(candidates, key=lambda each: (sources.known[each].at, each == recorded), default=None)

    def find(self, moment: Moment, sources: Sources) -> Target:
        """Raises MomentUnavailable, with the window and the nearest moments, for one that cannot be restored."""
        generation = moment.generation or self.present(sources)
        if generation is None or generation not in sources.known:
            raise self._unavailable(f"generation {generation} is not known, or was pruned", sources, None)
        reach = plans.reachable(sources, generation)
        if moment.sequence is not None:
            if not 0 <= moment.sequence <= reach:
                raise self._unavailable(f"event {moment.sequence} cannot be restored", sources, generation)
            return Target(generation=generation, sequence=moment.sequence)
        assert moment.instant is not None, "a moment has a sequence or an instant"
        return self._at_instant(generation, moment.instant, reach, sources)

    def plan(self, target: Target, sources: Sources) -> Plan:
        """Raises MomentUnavailable where what is left does not lead there."""
        found = plans.plan(sources, target)
        if found is None:
            raise self._unavailable("what is left of that time does not lead there", sources, target.generation)
        return found

    def disk_needed(self, way: Plan) -> int:
        """Bytes that the restore takes in STORAGE_DIR, at most about."""
        return _unpacked(way.archive) + _GROWTH * sum(each.header.bytes for each in way.segments)

    def prepare(self, way: Plan, staging: Path, sources: Sources, reason: str | None) -> dict[str, Any]:
        """What `eventvault.restore.prepare_moment` does and returns. Raises NoSpace before anything begins.

        Planned anew where what it was to be made from was merged or rotated away in between.
        """
        for _ in range(_TRIES):
            try:
                return self._prepare(way, staging, sources, reason)
            except (JournalDamaged, BackupNotFound) as error:
                gone = error.details.get("segment", way.archive.path if way.archive else None)
                if gone is None or Path(gone).exists():
                    raise
                sources = self.sources()
                way = self.plan(way.target, sources)
        return self._prepare(way, staging, sources, reason)

    def _prepare(self, way: Plan, staging: Path, sources: Sources, reason: str | None) -> dict[str, Any]:
        self._check_space(way)
        if way.live:
            self._copy_live(staging)
        return self._chores.run("prepare_moment", order=msgspec.to_builtins(self._order(way, staging, sources, reason)))

    def _check_space(self, way: Plan) -> None:
        needed, free = self.disk_needed(way), free_bytes(self._settings.storage_dir)
        if needed > free:
            raise NoSpace(
                f"restoring this moment needs {needed} bytes in {self._settings.storage_dir}, {free} are free",
                hint="free some space there and try again; nothing was begun",
                needed=needed,
                free=free,
            )

    def _copy_live(self, staging: Path) -> None:
        make_folder(staging)
        try:
            with self._bus.steady:
                take_checkpoint(self._settings.database, staging / DATABASE_NAME, self._bus.committer.held)
        except BaseException:
            remove_durably(staging)
            raise

    def _order(self, way: Plan, staging: Path, sources: Sources, reason: str | None) -> Order:
        identity, _ = self._identity_and_live()
        bounds = dict(lineage(sources.known, way.target.generation))
        archive = way.archive
        return Order(
            staging=str(staging),
            archive=archive.path if archive else None,
            proven=archive.sha256 if archive and archive.proven else None,
            copied=way.live,
            base=way.base,
            segments=[(str(each.path), bounds[each.generation]) for each in way.segments],
            generation=way.target.generation,
            sequence=way.target.sequence,
            instant=way.target.instant,
            store_id=self._store_id(way, identity),
            known=sorted(sources.known.values(), key=lambda each: each.at),
            reason=reason,
        )

    def time_of(self, sources: Sources, generation: str, sequence: int) -> int | None:
        """When that event was recorded, as far as it can be told without reading segments or archives."""
        live = sources.live
        if (
            sequence
            and live
            and sequence <= min(live.sequence, last_common(sources.known, live.generation, generation))
        ):
            with self._bus.using() as registry:
                return event.recorded_of(registry.at(sequence))
        line = lineage(sources.known, generation)
        if sequence == 0:
            return sources.known[line[-1][0]].at
        for first, _, each in coverage.in_lineage(sources.segments, line):
            if sequence in (first, each.last):
                return each.last_time if sequence == each.last else each.first_time
        return None

    def window(self, sources: Sources, generation: str) -> dict[str, Any]:
        """{oldest, newest}: the moments between which all can be restored, each {time, sequence}."""
        reach = plans.reachable(sources, generation)
        return {"oldest": self._moment(sources, generation, 0), "newest": self._moment(sources, generation, reach)}

    def _moment(self, sources: Sources, generation: str, sequence: int) -> dict[str, Any]:
        instant = self.time_of(sources, generation, sequence)
        return {"time": None if instant is None else clock.format_microseconds(instant), "sequence": sequence}

    def _identity_and_live(self) -> tuple[StoreIdentity | None, Live | None]:
        registry = self._bus.registry
        if registry is None:
            return None, None
        return registry.identity, Live(registry.identity.generation, registry.last_sequence)

    def _generations_of(self, entry: BackupEntry) -> dict[str, Generation]:
        try:
            generations = reader.read_manifest(Path(entry.path)).generations
        except (ArchiveError, BackupNotFound, OSError):
            return {}
        return {generation.id: generation for generation in generations}

    def _store_id(self, way: Plan, identity: StoreIdentity | None) -> str:
        if way.segments:
            return way.segments[0].header.store_id
        record = self._journal.read_record()
        known = identity or (record.registry if record else None)
        return known.store_id if known else ""

    def _at_instant(self, generation: str, instant: int, reach: int, sources: Sources) -> Target:
        born = sources.known[lineage(sources.known, generation)[-1][0]].at
        newest = self.time_of(sources, generation, reach) or 0
        if instant < min(born, newest or born):
            raise self._unavailable("that moment lies before the registry began", sources, generation)
        if instant > max(clock.now(), newest):
            raise self._unavailable("that moment lies in the future", sources, generation)
        if instant >= newest and self._has_hole(sources, generation, reach):
            raise self._unavailable("that moment lies in a gap of the journal", sources, generation)
        live = sources.live
        common = last_common(sources.known, live.generation, generation) if live else 0
        if live is not None and common:
            upto = min(common, live.sequence)
            with self._bus.using() as registry:
                sequence = registry.first_recorded_at_or_after(instant + 1, upto) - 1
            if sequence < upto or upto == reach:
                return Target(generation=generation, sequence=sequence)
        return self._in_segments(generation, instant, reach, sources)

    def _in_segments(self, generation: str, instant: int, reach: int, sources: Sources) -> Target:
        """Where the instant lies within or right behind a segment; else only an archive can tell."""
        line = lineage(sources.known, generation)
        held = [each for each in coverage.in_lineage(sources.segments, line) if each[0] <= reach]
        begun = [item for item in held if item[2].first_time <= instant]
        if begun:
            first, last, newest = max(begun, key=lambda item: item[1])
            lines = segment.read_lines(newest)[first - newest.first : last - newest.first + 1]
            sequence = first - 1 + bisect.bisect_right(lines, instant, key=event.recorded_of)
            if sequence < last or last >= reach or any(item[0] == last + 1 for item in held):
                return Target(generation=generation, sequence=min(sequence, reach))
        elif held and held[0][0] == 1:
            return Target(generation=generation, sequence=0)
        return Target(generation=generation, instant=instant)

    def _has_hole(self, sources: Sources, generation: str, reach: int) -> bool:
        """Whether there are events beyond what can be reached: what lies between is lost."""
        held = coverage.in_lineage(sources.segments, lineage(sources.known, generation))
        return any(last > reach for _, last, _ in held)

    def _unavailable(self, why: str, sources: Sources, generation: str | None) -> MomentUnavailable:
        asked = generation or self.present(sources)
        if asked is None:
            return MomentUnavailable(why, hint="there is neither an archive nor a journal", window=None, nearest=[])
        window = self.window(sources, asked)
        nearest = [{"generation": asked, **moment} for moment in (window["oldest"], window["newest"])]
        return MomentUnavailable(
            why, hint="choose a moment of the window; GET /api/backup/timeline shows them all", window=window,
            nearest=nearest,
        )  # fmt: skip


def _unpacked(archive: BackupEntry | None) -> int:
    if archive is None:
        return 0
    try:
        return reader.read_manifest(Path(archive.path)).total_size
    except ArchiveError:
        return _UNPACKED * archive.size
