"""Removing archives: by the retention rules, and on request. `retention` decides which ones."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import NamedTuple

import msgspec

from eventvault import clock
from eventvault.archive.locks import exclusive_lock
from eventvault.audit.deeds import Deeds
from eventvault.backups import retention
from eventvault.backups.catalogue import Catalogue
from eventvault.backups.entry import BackupEntry
from eventvault.backups.retention import RetentionPlan
from eventvault.backups.shared_size import SharedSize
from eventvault.database.bus import EventBus
from eventvault.errors import BackupNotFound, BackupProtected, EventVaultError
from eventvault.operations.caller import SCHEDULE
from eventvault.problems import Problem
from eventvault.progress import Turn
from eventvault.settings import Settings

log = logging.getLogger("BackupManager")

LOCK_PATIENCE_SECONDS = 0.5
"""How long a removal waits for a reader of the archive. Reading its manifest takes less."""
ROTATE = "rotate"
MAX_NAMES = 100
"""How many of the archives that one rotation removes are named in the audit."""
BATCH = 100
"""How many archives are removed in one change of the catalogue."""


class _Labelled(NamedTuple):
    """The newest list of archives with `retained_by`, and what it was made from."""

    source: list[BackupEntry]
    about: object
    entries: list[BackupEntry]
    excess: int


class ArchiveRemover:
    """Removes archives from BACKUP_DIR. Safe to use from many threads.

    is_clock_held: the system clock is not believed. covering: called with names of archives; returns the context in
    which they are removed, or raises why they must stay.
    """

    def __init__(
        self,
        settings: Settings,
        bus: EventBus,
        catalogue: Catalogue,
        is_clock_held: Callable[[], bool] = lambda: False,
        deeds: Deeds | None = None,
        covering: Callable[[Collection[str]], AbstractContextManager[object]] = lambda _names: nullcontext(),
    ) -> None:
        self._settings = settings
        self._rules = retention.rules_of(settings)
        self._bus = bus
        self._catalogue = catalogue
        self._is_clock_held = is_clock_held
        self._deeds = deeds or Deeds()
        self._covering = covering
        self._turn = Turn("removal of archives")
        """Held while archives are removed, so that one removal does not mistake another one for a reader."""
        self._labelled = _Labelled([], None, [], 0)

    def entries(self) -> list[BackupEntry]:
        """Return all archives, newest first, each with the rules that keep it."""
        return list(self._label(self._catalogue.entries()).entries)

    def with_rules(self, entry: BackupEntry) -> BackupEntry:
        """Return an archive as the list shows it, or as it is if it has gone."""
        return next((listed for listed in self.entries() if listed.name == entry.name), entry)

    def plan(self, entries: Sequence[BackupEntry]) -> RetentionPlan:
        """Return what the rules decide about all archives now. An archive that is read stays."""
        with self._turn.held():
            return self._plan(entries, self._is_busy)

    def rotate(self, just_made: str | None = None) -> list[str]:
        """Remove the archives that no rule keeps. Returns their names."""
        with self._turn.held():
            plan = self._plan(self._catalogue.entries(), self._is_busy, just_made)
            if not plan.removed:
                return []
            with self._deeds.doing(ROTATE, SCHEDULE, details={"planned": len(plan.removed)}) as deed:
                removed = [name for batch in self._remove_planned(plan) for name in batch]
                deed.results["removed"] = removed[:MAX_NAMES]
                return removed

    def remove_planned(self, plan: RetentionPlan) -> Iterator[list[str]]:
        """Remove the archives that go by the plan, step by step. Yields the names that each step removed.

        Raises what `covering` does, before anything was removed. An archive stays if it is read, or if it was pinned or
        became the last good one since the plan.
        """
        with self._turn.held():
            yield from self._remove_planned(plan)

    def frees(self, entries: Sequence[BackupEntry], removed: Sequence[str]) -> dict[str, int]:
        """Return how many bytes become free with each of `removed` if they go in this order, without blocks that
        another archive shares. entries: all archives."""
        present = {entry.name: entry for entry in entries}
        size = SharedSize(entries, self._catalogue.shared_runs.runs_of_archives())
        return {name: size.remove(present[name]) for name in removed}

    def delete(self, name: str, *, force: bool) -> None:
        """Remove one archive. Raises BackupNotFound; BackupProtected as the interface says; what `covering` does."""
        retention.check_deletion(self._catalogue.entries(), name, force=force)
        self._catalogue.entry(name)
        path = self._settings.backup_dir / name
        # Checked again under the lock, as it may have been pinned since.
        with self._covering([name]), self._turn.held(), exclusive_lock(path, LOCK_PATIENCE_SECONDS):
            self._catalogue.remove(name, lambda entries: retention.check_deletion(entries, name, force=force))
        log.info("%s was deleted on request", name)

    def problems(self) -> list[Problem]:
        """Return the problem that the archives take more than MAX_BACKUP_BYTES, as the newest list showed it."""
        if not self._labelled.excess:
            return []
        message = (
            f"the archives made here take {self._labelled.excess} bytes more than MAX_BACKUP_BYTES allows "
            f"({self._rules.max_bytes}): those that are left are pinned, the newest one, or the last verified one"
        )
        hint = "unpin archives (DELETE /api/backup/<name>/pin), delete some, or raise MAX_BACKUP_BYTES"
        return [Problem("backups_too_large", message, hint)]

    def _label(self, entries: list[BackupEntry]) -> _Labelled:
        now = clock.now()
        counted = now if self._rules.max_age is not None and any(entry.created > now for entry in entries) else None
        about = (self._is_clock_held(), counted, self._bus.generations())
        labelled = self._labelled
        if labelled.about != about or labelled.source != entries:
            plan = self._plan(entries)
            entries_with_rules = [
                msgspec.structs.replace(entry, retained_by=plan.retained.get(entry.name, ())) for entry in entries
            ]
            labelled = self._labelled = _Labelled(entries, about, entries_with_rules, plan.excess)
        return labelled

    def _plan(
        self,
        entries: Sequence[BackupEntry],
        is_read: Callable[[str], bool] = lambda _name: False,
        just_made: str | None = None,
    ) -> RetentionPlan:
        has_limit = self._rules.max_bytes is not None
        now = clock.now()  # first: it decides whether the clock is believed
        return retention.plan_retention(
            entries,
            self._rules,
            now,
            generations=self._bus.generations(),
            runs=self._catalogue.shared_runs.runs_of_archives() if has_limit else None,
            is_clock_held=self._is_clock_held(),
            is_read=is_read,
            just_made=just_made,
        )

    def _is_busy(self, name: str) -> bool:
        try:
            with exclusive_lock(self._settings.backup_dir / name, LOCK_PATIENCE_SECONDS):
                return False
        except (BackupNotFound, BackupProtected, OSError):
            return True

    def _remove_planned(self, plan: RetentionPlan) -> Iterator[list[str]]:
        with self._covering(plan.removed) if plan.removed else nullcontext():
            for start in range(0, len(plan.removed), BATCH):
                yield self._remove_batch(plan.removed[start : start + BATCH])

    def _remove_batch(self, names: Sequence[str]) -> list[str]:
        with ExitStack() as locks:
            locked = [name for name in names if self._is_locked(name, locks)]
            try:
                removed = self._catalogue.remove_all(lambda entries: retention.still_removable(entries, locked))
            except (EventVaultError, OSError) as error:
                log.warning("archives that no rule keeps stay, as they could not be removed: %s", error)
                return []
        for name in removed:
            log.info("%s was removed by rotation: no rule keeps it", name)
        return removed

    def _is_locked(self, name: str, locks: ExitStack) -> bool:
        try:
            locks.enter_context(exclusive_lock(self._settings.backup_dir / name, LOCK_PATIENCE_SECONDS))
        except BackupNotFound:
            return False
        except (EventVaultError, OSError) as error:
            log.warning("%s stays, as rotation could not remove it: %s", name, error)
            return False
        return True
