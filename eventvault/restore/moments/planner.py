"""Plans a moment, and plans it again if a file of the plan turns out to be damaged or missing."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from eventvault.errors import (
    BackupNotFound,
    EventVaultError,
    JournalDamaged,
    JournalUnreadable,
    MomentUnavailable,
    RestoreRunning,
)
from eventvault.journal.folder import JournalFolder, segment_of
from eventvault.restore.moments import plan as plans
from eventvault.restore.moments.locate import MomentLocator
from eventvault.restore.moments.plan import Plan, Sources
from eventvault.restore.values import Moment

log = logging.getLogger("BackupManager")

_ATTEMPTS = 3
"""How often files may go away, or the database be swapped, before that is an error."""

REPLANNED = (MomentUnavailable, JournalDamaged, BackupNotFound, RestoreRunning)
"""Errors of a plan after which another one may succeed: see `MomentPlanner.plan_again`."""


class Failures(msgspec.Struct, frozen=True):
    """Failures of earlier plans. excluded: damaged files; damage: the first error of one. others: count of the rest."""

    excluded: frozenset[Path] = frozenset()
    damage: JournalDamaged | None = None
    others: int = 0


class PlannedMoment(msgspec.Struct, frozen=True):
    """A moment, and how it is built. sources: what the plan was made from."""

    moment: Moment
    plan: Plan
    sources: Sources
    failures: Failures = Failures()


class MomentPlanner:
    """Safe to use from many threads. Methods may raise OSError, and BackupsUnavailable if BACKUP_DIR is missing."""

    def __init__(self, locator: MomentLocator, journal: JournalFolder) -> None:
        self._locator = locator
        self._journal = journal

    def plan(self, moment: Moment) -> PlannedMoment:
        """Return how to build a moment. Raises MomentUnavailable, or JournalDamaged if it needs a damaged segment.

        JournalUnreadable: one that the disk cannot read now. Either error names the segment, the `window`, and the
        `nearest` moment that can be restored without it.
        """
        return self._plan(moment, Failures())

    def plan_again(self, planned: PlannedMoment, error: EventVaultError) -> PlannedMoment:
        """Return another plan after `error` of this one: without the damaged file. Raises if there is none to try.

        Segments are merged and archives rotated away at any time, so a missing file is not damage.
        """
        return self._plan(planned.moment, self._add_failure(planned.failures, error, planned))

    def _plan(self, moment: Moment, failures: Failures) -> PlannedMoment:
        while True:
            sources = plans.without_files(self._locator.find_sources(), failures.excluded)
            try:
                plan, sources = self._locator.plan_for(moment, sources)
            except REPLANNED as error:
                failures = self._add_failure(failures, error, None)
            else:
                return PlannedMoment(moment, plan, sources, failures)

    def _add_failure(self, failures: Failures, error: EventVaultError, tried: PlannedMoment | None) -> Failures:
        """Return the failures with `error`, or raise if no other plan can do. tried: the plan that failed, if any."""
        if isinstance(error, MomentUnavailable):
            damage = failures.damage or self._unreadable_beyond(error)
            if damage is None:
                raise error
            raise _blocked_by(damage, error) from error
        if isinstance(error, JournalDamaged):
            blamed = _blamed(error, tried)
            if blamed.is_file():
                self._report(blamed, error)
                return Failures(failures.excluded | {blamed}, failures.damage or error, failures.others)
        if failures.others + 1 == _ATTEMPTS:
            raise error
        return msgspec.structs.replace(failures, others=failures.others + 1)

    def _report(self, blamed: Path, error: JournalDamaged) -> None:
        log.warning("planning the restore without %s: %s", blamed, error)
        if blamed == Path(error.details.get("segment", "")):
            self._journal.mark_suspect(blamed)

    def _unreadable_beyond(self, unavailable: MomentUnavailable) -> JournalUnreadable | None:
        """Return why a segment is missing that may hold what the moment needs; the disk may read it later."""
        for error in [error for error in self._journal.segments()[1] if isinstance(error, JournalUnreadable)]:
            segment, nearest = segment_of(error), unavailable.details["nearest"]
            before = [end for end in nearest if end["generation"] == segment.generation and end["sequence"]]
            if not nearest or any(segment.last > end["sequence"] for end in before):
                return error
        return None


def _blamed(error: JournalDamaged, tried: PlannedMoment | None) -> Path:
    """Return the file to exclude. An archive and a segment that hold different events are both named."""
    segment = Path(error.details.get("segment", ""))
    if "archive" not in error.details:
        return segment
    archive = Path(error.details["archive"])
    if "segment" not in error.details or tried is None:
        return archive
    return plans.choose_conflicting(tried.sources, tried.plan.target.generation, archive, segment)


def _blocked_by(damage: JournalDamaged, unavailable: MomentUnavailable) -> JournalDamaged:
    """Return the error for a moment that needs a damaged segment: it names the last moment that does not."""
    nearest = unavailable.details["nearest"][-1:]
    hint = "there is nothing else to restore from"
    if nearest:
        last = nearest[0]
        hint = f"the last moment that can be restored without it is event {last['sequence']} of {last['generation']}"
    files = {name: path for name, path in damage.details.items() if name in ("segment", "archive")}
    return type(damage)(damage.message, hint=hint, **files, window=unavailable.details["window"], nearest=nearest)
