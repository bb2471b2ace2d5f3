"""Restores and undo: done by `eventvault.restore`, after which the store serves the database that it got."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from eventvault.backups.catalogue import Catalogue
from eventvault.restore.moments.build import Moments
from eventvault.restore.moments.point_in_time import PointInTime
from eventvault.restore.moments.timeline import timeline
from eventvault.restore.swap import undo
from eventvault.restore.swap.restorer import Restorer
from eventvault.restore.values import KeptEntry, Moment, Restored
from eventvault.settings import Settings
from eventvault.store.lifecycle import Lifecycle
from eventvault.store.operation_ids import Operation
from eventvault.store.ports.restores import Restores


class RestoresOwner(Restores):
    """on_started: called once a restore was applied: a store that takes over has nothing more to restore."""

    def __init__(
        self,
        settings: Settings,
        lifecycle: Lifecycle,
        catalogue: Catalogue,
        restorer: Restorer,
        moments: Moments,
        point_in_time: PointInTime,
        on_started: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._lifecycle = lifecycle
        self._catalogue = catalogue
        self._restorer = restorer
        self._moments = moments
        self._point_in_time = point_in_time
        self._on_started = on_started

    def restore(self, name: str, *, staged: bool = False, operation: Operation | None = None) -> Restored:
        operation = operation or Operation()

        def work() -> Restored:
            entry = self._catalogue.entry(name)
            proven = entry.sha256 if entry.records_verified else None
            return self._restorer.restore(Path(entry.path), staged=staged, operation=operation.id, proven=proven)

        return self._serving_afterwards(work)

    def restore_moment(self, moment: Moment, *, staged: bool = False, operation: Operation | None = None) -> Restored:
        operation = operation or Operation()
        return self._serving_afterwards(
            lambda: self._point_in_time.restore(moment, staged=staged, operation=operation.id)
        )

    def undo(self, name: str | None = None, *, operation: Operation | None = None) -> Restored:
        operation = operation or Operation()
        return self._serving_afterwards(lambda: self._restorer.undo(name, operation=operation.id))

    def list_undo(self) -> list[KeptEntry]:
        return undo.entries(self._settings.storage_dir)

    def plan_restore(self, asked: Moment | str) -> dict[str, Any]:
        return self._point_in_time.plan(asked)

    def timeline(self) -> dict[str, Any]:
        return timeline(self._moments)

    def _serving_afterwards(self, work: Callable[[], Restored]) -> Restored:
        self._lifecycle.check_started()
        restored = work()
        if not restored.staged:
            # Where the start itself had come to nothing: a store that takes over now must not restore once more.
            self._on_started()
            self._lifecycle.serve()
        return restored
