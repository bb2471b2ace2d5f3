"""Moments: planned, and made into a private database beside the live one. Nothing here changes the live data."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from eventvault import data_folders
from eventvault.backups.catalogue import Catalogue
from eventvault.chores import Chores
from eventvault.database.bus import EventBus
from eventvault.database.checkpoint import take_checkpoint
from eventvault.database.generation import lineage
from eventvault.errors import BackupNotFound, JournalDamaged, MomentUnavailable, RestoreRunning
from eventvault.files import make_folder, remove_durably
from eventvault.journal.folder import JournalFolder
from eventvault.journal.writer import Offsets
from eventvault.restore.moments import plan as plans
from eventvault.restore.moments.build_chore import Order
from eventvault.restore.moments.locate import Finder, check_is
from eventvault.restore.moments.plan import Live, Plan, Sources
from eventvault.restore.space import check_space, unpacked_bytes
from eventvault.restore.values import Moment
from eventvault.settings import Settings

log = logging.getLogger("BackupManager")

T = TypeVar("T")

_GROWTH = 2
"""A database takes at most about so many times the bytes of the events that are put into it."""
_TRIES = 3


class Materialised(msgspec.Struct, frozen=True):
    """A database of its own in `folder`, which nobody has open: the events 1 to `sequence` of `generation`."""

    folder: Path
    generation: str
    sequence: int


class Moments(Finder):
    """Safe to use from many threads. Methods may raise OSError and BackupsUnavailable where BACKUP_DIR is away.

    A way to a moment that meets a damaged segment is given up for another one; where there is none, JournalDamaged
    says what is damaged, with the `window` and the `nearest` moment that can be had without it.
    """

    def __init__(
        self, settings: Settings, bus: EventBus, catalogue: Catalogue, journal: JournalFolder, chores: Chores
    ) -> None:
        super().__init__(bus, catalogue, journal)
        self._settings = settings
        self._chores = chores

    def materialise(self, moment: Moment, staging: Path) -> Materialised:
        """The moment as a database in `staging/event_registry_db`, of the generation that it belongs to.

        staging: a folder below STORAGE_DIR that is not there yet; the caller removes it. On an error it is gone.
        Raises MomentUnavailable, NoSpace, or an ArchiveError for what is damaged.
        """
        _, answer = self.make(moment, staging, reason=None)
        return Materialised(staging / data_folders.DATABASE, answer["generation"], answer["sequence"])

    def make(self, moment: Moment, staging: Path, reason: str | None) -> tuple[Plan, dict[str, Any]]:
        """`materialise`, as what `prepare_moment` returns. reason: of the generation that begins there, if one does."""

        def work(way: Plan, sources: Sources) -> tuple[Plan, dict[str, Any]]:
            answer = self.prepare(way, staging, sources, reason)
            try:
                if way.target.sequence is None:
                    self.check_end(sources, way.target.generation, answer["sequence"])
            except BaseException:
                remove_durably(staging)
                raise
            return way, answer

        return self._led_to(moment, work)

    def way_to(self, moment: Moment) -> tuple[Plan, Sources]:
        """How a moment would be made, and of what; nothing is made."""
        return self._led_to(moment, lambda way, sources: (way, sources))

    def prepare(
        self, way: Plan, staging: Path, sources: Sources, reason: str | None, kafka: Offsets | None = None
    ) -> dict[str, Any]:
        """What `eventvault.restore.moments.build_chore` does and returns. Raises NoSpace before anything begins.

        Raises JournalDamaged or BackupNotFound for what was merged or rotated away since it was planned, and
        RestoreRunning where the database was swapped.
        """
        check_space(self._settings.storage_dir, self.disk_needed(way), "restoring this moment")
        if way.live:
            assert sources.live is not None, "a way from the open database was planned with one"
            self._copy_live(staging, sources.live)
        order = msgspec.structs.replace(self._order(way, staging, sources, reason), kafka=kafka or {})
        return self._chores.run("prepare_moment", order=msgspec.to_builtins(order))

    def bytes_to_read(self, way: Plan) -> int:
        return way.bytes_to_read + (self._live_bytes() if way.live else 0)

    def disk_needed(self, way: Plan) -> int:
        """Bytes that the restore takes in STORAGE_DIR, at most about."""
        unpacked = unpacked_bytes(Path(way.archive.path)) if way.archive else 0
        return unpacked + _GROWTH * sum(each.header.bytes for each in way.segments)

    def _led_to(self, moment: Moment, work: Callable[[Plan, Sources], T]) -> T:
        """`work` on a way to the moment. Planned anew where segments were merged or archives rotated away meanwhile."""
        gone: set[Path] = set()
        damage: JournalDamaged | None = None
        tries = 0
        while True:
            sources = plans.without(self.sources(), gone)
            try:
                way, sources = self.way(moment, sources)
                return work(way, sources)
            except MomentUnavailable as error:
                if damage is None:
                    raise
                raise _stopped_by(damage, error) from error
            except JournalDamaged as error:
                named = blamed = Path(error.details.get("segment", ""))
                if "archive" in error.details:
                    blamed = plans.choose_conflicting(
                        sources, way.target.generation, Path(error.details["archive"]), named
                    )
                if blamed.is_file():
                    log.warning("looking for a way without %s: %s", blamed, error)
                    if blamed == named:
                        self._journal.mark_suspect(named)
                    damage = damage or error
                    gone.add(blamed)
                    continue
                last_error: JournalDamaged | BackupNotFound | RestoreRunning = error
            except (BackupNotFound, RestoreRunning) as error:
                last_error = error
            tries += 1
            if tries == _TRIES:
                raise last_error

    def _live_bytes(self) -> int:
        found = 0
        with contextlib.suppress(FileNotFoundError):  # a swap may be under way
            for file in self._settings.database.iterdir():
                with contextlib.suppress(FileNotFoundError):  # it was compacted away
                    found += file.stat().st_size
        return found

    def _copy_live(self, staging: Path, live: Live) -> None:
        """A copy of the open database, where it is the one that was planned with: a swap may have come in between."""

        @contextmanager
        def held() -> Iterator[None]:
            with self._bus.committer.paused():
                check_is(live, self._bus.registry)
                yield

        make_folder(staging)
        try:
            with self._bus.swap_lock:
                take_checkpoint(self._settings.database, staging / data_folders.DATABASE, held)
        except BaseException:
            remove_durably(staging)
            raise

    def _order(self, way: Plan, staging: Path, sources: Sources, reason: str | None) -> Order:
        bounds = dict(lineage(sources.known, way.target.generation))
        archive = way.archive
        return Order(
            staging=str(staging),
            archive=archive.path if archive else None,
            proven=archive.sha256 if archive and archive.records_verified else None,
            copied=way.live,
            base=way.base,
            segments=[(str(each.path), bounds[each.generation]) for each in way.segments],
            generation=way.target.generation,
            sequence=way.target.sequence,
            instant=way.target.instant,
            store_id=self._store_id(way),
            known=sorted(sources.known.values(), key=lambda each: each.at),
            reason=reason,
        )

    def _store_id(self, way: Plan) -> str:
        if way.segments:
            return way.segments[0].header.store_id
        identity, _ = self._identity_and_live()
        record = self._journal.read_record()
        known = identity or (record.registry if record else None)
        return known.store_id if known else ""


def _stopped_by(damage: JournalDamaged, unavailable: MomentUnavailable) -> JournalDamaged:
    """What is said of a moment to which nothing leads without a damaged segment: the last whole one can be had."""
    nearest = unavailable.details["nearest"][-1:]
    hint = "there is nothing else to restore from"
    if nearest:
        last = nearest[0]
        hint = f"the last moment that can be had without it is event {last['sequence']} of {last['generation']}"
    return JournalDamaged(
        damage.message,
        hint=hint,
        segment=damage.details["segment"],
        window=unavailable.details["window"],
        nearest=nearest,
    )
