"""Restores and undo, done by `eventvault.restore`; afterwards the store serves the restored database."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from eventvault.backups.catalogue import Catalogue
from eventvault.restore.builder import ArchiveSource
from eventvault.restore.moments.locate import MomentLocator
from eventvault.restore.moments.preview import RestorePreview
from eventvault.restore.moments.timeline import timeline
from eventvault.restore.restorer import Restorer, UndoRequest
from eventvault.restore.swap import undo
from eventvault.restore.unpacked import Trust
from eventvault.restore.values import Moment, PreviousEntry, Restored
from eventvault.settings import Settings
from eventvault.store.lifecycle import Lifecycle
from eventvault.store.operation_ids import Operation
from eventvault.store.ports.restores import Restores


class RestoresOwner(Restores):
    """on_started: called once a restore is applied, after which a store that takes over has nothing to restore."""

    def __init__(
        self,
        settings: Settings,
        lifecycle: Lifecycle,
        catalogue: Catalogue,
        restorer: Restorer,
        locator: MomentLocator,
        preview: RestorePreview,
        on_started: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._lifecycle = lifecycle
        self._catalogue = catalogue
        self._restorer = restorer
        self._locator = locator
        self._preview = preview
        self._on_started = on_started

    def restore(self, name: str, *, staged: bool = False, operation: Operation | None = None) -> Restored:
        operation = operation or Operation()

        def work() -> Restored:
            entry = self._catalogue.entry(name)
            archive = ArchiveSource(Path(entry.path), Trust.of(entry, self._catalogue.proof()))
            return self._restorer.restore(archive, staged=staged, operation=operation.id)

        return self._serving_afterwards(work)

    def restore_moment(self, moment: Moment, *, staged: bool = False, operation: Operation | None = None) -> Restored:
        operation = operation or Operation()
        return self._serving_afterwards(lambda: self._restorer.restore(moment, staged=staged, operation=operation.id))

    def undo(self, name: str | None = None, *, operation: Operation | None = None) -> Restored:
        operation = operation or Operation()
        return self._serving_afterwards(lambda: self._restorer.restore(UndoRequest(name), operation=operation.id))

    def list_undo(self) -> list[PreviousEntry]:
        return undo.list_undo(self._settings.storage_dir)

    def plan_restore(self, target: Moment | str) -> dict[str, Any]:
        return self._preview.describe(target)

    def timeline(self) -> dict[str, Any]:
        return timeline(self._locator)

    def _serving_afterwards(self, work: Callable[[], Restored]) -> Restored:
        self._lifecycle.check_started()
        restored = work()
        if not restored.staged:
            # If the start had failed: a store that takes over now must not restore from `restore/` again.
            self._on_started()
            self._lifecycle.serve()
        return restored
