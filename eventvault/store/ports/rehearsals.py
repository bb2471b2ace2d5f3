"""The port to rehearsals of restores."""

from __future__ import annotations

from typing import Protocol

from eventvault.rehearsals.results import Rehearsal
from eventvault.restore.values import Moment
from eventvault.rpc.markers import changes, operation


class Rehearsals(Protocol):
    @changes
    @operation("rehearse")
    def rehearse(self, target: Moment | str | None = None) -> Rehearsal:
        """Restore into a scratch folder, compare with the live events, measure, and throw away what was restored.

        target: the name of an archive, a moment, or None for the newest state that archives and journal hold. If a
        backup cannot be restored, the result says so. Raises BackupNotFound if there is nothing to rehearse,
        MomentUnavailable, NoSpace with the `needed` bytes, RehearsalRunning, or RestoreRunning.
        """

    def list_rehearsals(self) -> list[Rehearsal]:
        """Return the newest 100 results, newest first."""
