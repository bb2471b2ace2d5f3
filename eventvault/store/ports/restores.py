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
        """Restore a moment, as `restore` does an archive. Raises MomentUnavailable with the window of those it can.

        replay: read Kafka's topics again from the moment on, as a restore of an archive does from the archive on.
        """

    @changes
    @operation("undo")
    @audited("undo")
    def undo(self, name: str | None = None) -> Restored:
        """Bring back the previous database of the newest restore, or the one called `name`; can be undone itself.

        Raises NothingToUndo, UndoNotFound, RestoreRunning, NoSpace, or ArchiveDamaged if the previous database cannot
        be read; then the database is unchanged.
        """

    def list_undo(self) -> list[PreviousEntry]:
        """The previous databases that `undo` can bring back, newest first."""

    def plan_restore(self, target: Moment | str, *, replay: bool = False) -> dict[str, Any]:
        """What a restore of a moment, or of the archive of that name, would do: the members of `plan` in the API.

        replay: as of `restore_moment`.
        Changes nothing. Raises what the restore would raise before it begins, NoSpace excepted, and the ArchiveError
        of an archive that is recorded as damaged or cut off.
        """

    def timeline(self, *, buckets: int | None = None) -> dict[str, Any]:
        """What can be restored, ready to be drawn: `window`, `generations`, `archives`, `segments`, `gaps`.

        buckets: at most so many `marks` instead of archives, no segments, and the newest generations and gaps only.
        """
