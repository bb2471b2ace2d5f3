"""The port to restores, their undo, and what can be restored."""

from __future__ import annotations

from typing import Any, Protocol

from eventvault.restore.values import Moment, PreviousEntry, Restored
from eventvault.rpc.markers import audited, changes, operation


class Restores(Protocol):
    @changes
    @operation("restore")
    @audited("restore")
    def restore(self, name: str, *, staged: bool = False, cancel_jobs: bool = False) -> Restored:
        """Restore the archive `name`; applied when this returns, or with `staged` at the next start of the service.

        cancel_jobs: cancel the unfinished jobs that were created after it; not together with `staged`.
        Raises BackupNotFound, RestoreRunning, NoSpace, or an ArchiveError; then the database is unchanged.
        """

    @changes
    @operation("restore")
    @audited("restore")
    def restore_moment(
        self, moment: Moment, *, staged: bool = False, cancel_jobs: bool = False, replay: bool = False
    ) -> Restored:
        """Restore a moment as `restore` restores an archive. Raises MomentUnavailable with the available window.

        replay: read Kafka's topics again from the moment on. A restore of an archive always does so.
        """

    @changes
    @operation("undo")
    @audited("undo")
    def undo(self, name: str | None = None) -> Restored:
        """Bring back the previous database of the newest restore, or the one called `name`. An undo can be undone.

        Raises NothingToUndo, UndoNotFound, RestoreRunning, NoSpace, or ArchiveDamaged if the previous database cannot
        be read; then the database is unchanged.
        """

    def list_undo(self) -> list[PreviousEntry]:
        """Return the previous databases that `undo` can bring back, newest first."""

    def plan_restore(self, target: Moment | str, *, replay: bool = False) -> dict[str, Any]:
        """Return what a restore of a moment or of a named archive would do: the members of `plan` in the API.

        replay: as for `restore_moment`. Changes nothing. Raises what the restore would raise before it begins, except
        NoSpace, and the ArchiveError of an archive that is recorded as damaged or cut off.
        """

    def timeline(self, *, buckets: int | None = None) -> dict[str, Any]:
        """Return what can be restored, ready to be drawn: `window`, `generations`, `archives`, `segments`, `gaps`.

        buckets: return so many `marks` at most, in place of archives and segments; and the newest generations and gaps.
        """
