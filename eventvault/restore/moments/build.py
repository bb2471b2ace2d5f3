"""Builds the database of a moment in a private folder. Nothing here changes the live data."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import plyvel

from eventvault import data_folders
from eventvault.archive.proof import Proof
from eventvault.chores import Chores
from eventvault.database.bus import EventBus
from eventvault.database.checkpoint import take_checkpoint
from eventvault.database.generation import last_common, lineage, oldest_first
from eventvault.database.keyed_requests import StoredAnswer
from eventvault.errors import EventVaultError
from eventvault.files import folder_size, make_folder, removing_on_failure
from eventvault.journal.folder import JournalFolder
from eventvault.journal.segment import encode_answers
from eventvault.kafka.offsets import Offsets
from eventvault.restore.moments import plan as plans
from eventvault.restore.moments.build_chore import Order
from eventvault.restore.moments.locate import MomentLocator, check_unchanged
from eventvault.restore.moments.plan import Live, Plan, Sources
from eventvault.restore.moments.planner import REPLANNED, MomentPlanner, PlannedMoment
from eventvault.restore.moments.unpublished_segments import add_unpublished
from eventvault.restore.space import check_space, unpacked_bytes
from eventvault.restore.unpacked import ArchiveFacts
from eventvault.restore.values import Moment
from eventvault.settings import Settings

_MOST_UNJOURNALED = 100_000
_GROWTH = 2
"""A database needs at most about this many times the bytes of its events."""


class Materialised(msgspec.Struct, frozen=True):
    """A private database in `folder`, which nobody has open: the events 1 to `sequence` of `generation`."""

    folder: Path
    generation: str
    sequence: int


class MomentBuilder:
    """Safe to use from many threads. on_replanned: called with another plan before it is tried.

    Methods may raise OSError, and BackupsUnavailable if BACKUP_DIR is missing.
    """

    def __init__(
        self,
        settings: Settings,
        bus: EventBus,
        locator: MomentLocator,
        journal: JournalFolder,
        chores: Chores,
        on_replanned: Callable[[PlannedMoment], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._bus = bus
        self._locator = locator
        self._journal = journal
        self._chores = chores
        self._planner = MomentPlanner(locator, journal)
        self._on_replanned = on_replanned

    def plan(self, moment: Moment) -> PlannedMoment:
        """See `MomentPlanner.plan`."""
        return self._planner.plan(moment)

    def materialise(self, moment: Moment, staging: Path) -> Materialised:
        """Build the moment in `staging/event_registry_db`, in the generation that it belongs to.

        staging: a folder below STORAGE_DIR that does not exist yet; the caller removes it. On an error it is gone.
        Raises MomentUnavailable, NoSpace, or an ArchiveError for what is damaged.
        """
        _, answer = self.build(self.plan(moment), staging, reason=None)
        return Materialised(staging / data_folders.DATABASE, answer["generation"], answer["sequence"])

    def build(self, planned: PlannedMoment, staging: Path, reason: str | None) -> tuple[PlannedMoment, dict[str, Any]]:
        """Build the moment; if a file of its plan turns out to be damaged or missing, plan again and build that.

        reason: of the generation that begins at the moment; None: no generation begins.
        Returns the plan that succeeded, and what `prepare_moment` returns.
        """
        while True:
            try:
                answer = self.execute(planned.plan, staging, planned.sources, reason)
                self._check_end(planned, staging, answer["sequence"])
            except REPLANNED as error:
                planned = self._planner.plan_again(planned, error)
                self._on_replanned(planned)
            else:
                return planned, answer

    def execute(
        self,
        plan: Plan,
        staging: Path,
        sources: Sources,
        reason: str | None,
        kafka: Offsets | None = None,
        published: int = 0,
    ) -> dict[str, Any]:
        """Build by this one plan, in a child process (`prepare_moment`), and return its answer.

        Raises NoSpace before anything begins, JournalDamaged or BackupNotFound if a file of the plan is damaged or was
        merged or rotated away meanwhile, and RestoreRunning if the database was swapped.
        """
        check_space(self._settings.storage_dir, self.disk_needed(plan), "restoring this moment")
        if plan.live:
            assert sources.live is not None, "a plan from the open database was made with one"
            self._copy_live(staging, sources.live)
        order = self._order(plan, staging, sources, reason)
        order = msgspec.structs.replace(order, published=published)
        if kafka is not None:  # of a lost database; any other has its quarantine
            dead_letters = (str(self._journal.root), self._locator.installation)
            order = msgspec.structs.replace(order, kafka=kafka, dead_letters=dead_letters)
        return self._chores.run("prepare_moment", order=msgspec.to_builtins(order))

    def add_unpublished(self, database: Path) -> None:
        """Add the unpublished events of the journal that a new database lacks, so that they wait there."""
        add_unpublished(database, self._journal, self._locator.our_record())

    def proof(self) -> Proof:
        """Return what proves an archive now."""
        return self._locator.proof()

    def bytes_to_read(self, plan: Plan) -> int:
        return plan.bytes_to_read + (folder_size(self._settings.database) if plan.live else 0)

    def disk_needed(self, plan: Plan) -> int:
        """Return about how many bytes the restore needs at most in STORAGE_DIR."""
        unpacked = unpacked_bytes(Path(plan.archive.path)) if plan.archive else 0
        if plan.archive is not None and not plan.archive.origin_proven:
            unpacked *= 2  # a fresh database is made beside the one that was unpacked
        return unpacked + _GROWTH * sum(segment.header.content_bytes for segment in plan.segments)

    def _check_end(self, planned: PlannedMoment, staging: Path, sequence: int) -> None:
        """Check that the archive has all events up to an instant, if only the archive could say where it ends."""
        target = planned.plan.target
        with removing_on_failure(staging):
            if target.sequence is None:
                self._locator.check_end(planned.sources, target.generation, sequence)

    def _copy_live(self, staging: Path, live: Live) -> None:
        """Copy the open database. Raises RestoreRunning if it is not `live` any more."""
        make_folder(staging)
        with removing_on_failure(staging), self._bus.swap_lock.held():
            take_checkpoint(self._settings.database, staging / data_folders.DATABASE, partial(self._paused, live))

    @contextmanager
    def _paused(self, live: Live) -> Iterator[None]:
        with self._bus.committer.paused():
            check_unchanged(live, self._bus.registry)
            yield

    def _order(self, plan: Plan, staging: Path, sources: Sources, reason: str | None) -> Order:
        bounds = dict(lineage(sources.generations, plan.target.generation))
        archive = plan.archive
        return Order(
            staging=str(staging),
            archive=archive.path if archive else None,
            facts=ArchiveFacts.of(archive, self.proof()),
            copied=plan.live,
            base=plan.base,
            segments=[(str(segment.path), bounds[segment.generation]) for segment in plan.segments],
            generation=plan.target.generation,
            sequence=plan.target.sequence,
            instant=plan.target.instant,
            store_id=self._store_id(plan),
            generations=oldest_first(sources.generations.values()),
            claimed=sources.claimed,
            reason=reason,
            answers=self._unjournaled_answers(plan, sources) if reason is not None else "",
            journaled=plans.journaled_event_of_base(plan, sources),
            present=self._live_events(plan, sources),
        )

    def _live_events(self, plan: Plan, sources: Sources) -> list[tuple[int, str]]:
        """Return (sequence, SHA-256) of events of the open database that the plan's base and target must have too.

        The list is empty if the open database lacks the target: it may be an old copy itself, which the plan replaces.
        """
        live = sources.live
        if live is None or plan.live:
            return []
        common = min(live.sequence, last_common(sources.generations, live.generation, plan.target.generation))
        if plan.target.sequence is None or plan.target.sequence > common:
            return []
        with suppress(EventVaultError, plyvel.Error), self._bus.using() as registry:
            check_unchanged(live, registry)
            shared = {min(plan.base, plan.target.sequence), plan.target.sequence} - {0}
            return [(sequence, hashlib.sha256(registry.at(sequence)).hexdigest()) for sequence in shared]
        return []

    def _unjournaled_answers(self, plan: Plan, sources: Sources) -> str:
        """Return the open database's answers to requests whose events come from segments without answers.

        Only an earlier version wrote such segments of requests that had a key.
        """
        live, answers = sources.live, list[StoredAnswer]()
        if live is None:
            return ""
        upto = min(live.sequence, last_common(sources.generations, live.generation, plan.target.generation))
        with suppress(EventVaultError, plyvel.Error), self._bus.using() as registry:
            check_unchanged(live, registry)
            for segment in plan.segments:
                if not segment.header.has_answers:
                    stored = registry.answers(max(segment.first, plan.base + 1), min(segment.last, upto))
                    answers += islice(stored, _MOST_UNJOURNALED - len(answers))
        return encode_answers(answers).decode()

    def _store_id(self, plan: Plan) -> str:
        if plan.segments:
            return plan.segments[0].header.store_id
        identity = self._locator.identity()
        return identity.store_id if identity else ""
