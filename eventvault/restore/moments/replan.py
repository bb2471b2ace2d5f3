"""A moment with its plan, and the next plan when that one cannot be built."""

from __future__ import annotations

import logging
from pathlib import Path

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
"""Errors after which another plan may do: see `PlannedMoment.replan`."""


class PlannedMoment:
    """A moment to build. plan: how to build it. sources: what the plan was made from.

    Raises MomentUnavailable, or JournalDamaged if every plan needs a damaged segment (JournalUnreadable: one that the
    disk cannot read now). That error names the segment, the `window`, and the `nearest` moment that can be restored
    without it.
    """

    plan: Plan
    sources: Sources

    def __init__(self, moment: Moment, locator: MomentLocator, journal: JournalFolder) -> None:
        self._moment = moment
        self._locator = locator
        self._journal = journal
        self._excluded: set[Path] = set()
        self._damage: JournalDamaged | None = None
        self._attempts = 0
        self._find_plan()

    @property
    def instant(self) -> int | None:
        """The instant that was asked for, in microseconds; None if the moment was named otherwise."""
        return self._moment.instant

    def replan(self, error: EventVaultError) -> None:
        """After `error` of the plan: plan again, without the file that is damaged. Raises if no plan is left to try.

        Segments are merged and archives rotated away at any time, so a file that is missing is no damage.
        """
        self._learn_from(error)
        self._find_plan()

    def _find_plan(self) -> None:
        while True:
            self.sources = plans.excluding(self._locator.sources(), self._excluded)
            try:
                self.plan, self.sources = self._locator.plan_for(self._moment, self.sources)
                return
            except REPLANNED as error:
                self._learn_from(error)

    def _learn_from(self, error: EventVaultError) -> None:
        if isinstance(error, MomentUnavailable):
            damage = self._damage or self._unreadable_beyond(error)
            if damage is None:
                raise error
            raise _blocked_by(damage, error) from error
        if isinstance(error, JournalDamaged) and self._exclude_damaged(error):
            return
        self._attempts += 1
        if self._attempts == _ATTEMPTS:
            raise error

    def _unreadable_beyond(self, unavailable: MomentUnavailable) -> JournalUnreadable | None:
        """A segment that the disk cannot read now, and that may hold what the moment needs: it may be there later."""
        for error in [error for error in self._journal.segments()[1] if isinstance(error, JournalUnreadable)]:
            segment, nearest = segment_of(error), unavailable.details["nearest"]
            before = [end for end in nearest if end["generation"] == segment.generation and end["sequence"]]
            if not nearest or any(segment.last > end["sequence"] for end in before):
                return error
        return None

    def _exclude_damaged(self, error: JournalDamaged) -> bool:
        """Exclude the file that is to blame; False if it is not there any more."""
        segment = blamed = Path(error.details.get("segment", ""))
        if "archive" in error.details:
            archive = blamed = Path(error.details["archive"])
        if {"archive", "segment"} <= error.details.keys():
            blamed = plans.choose_conflicting(self.sources, self.plan.target.generation, archive, segment)
        if not blamed.is_file():
            return False
        log.warning("planning the restore without %s: %s", blamed, error)
        if blamed == segment:
            self._journal.mark_suspect(segment)
        self._damage = self._damage or error
        self._excluded.add(blamed)
        return True


def _blocked_by(damage: JournalDamaged, unavailable: MomentUnavailable) -> JournalDamaged:
    """The error for a moment that cannot be reached without a damaged segment: it names the last one that can."""
    nearest = unavailable.details["nearest"][-1:]
    hint = "there is nothing else to restore from"
    if nearest:
        last = nearest[0]
        hint = f"the last moment that can be restored without it is event {last['sequence']} of {last['generation']}"
    files = {name: path for name, path in damage.details.items() if name in ("segment", "archive")}
    return type(damage)(damage.message, hint=hint, **files, window=unavailable.details["window"], nearest=nearest)
