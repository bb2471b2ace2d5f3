"""The port to the past, read without a restore."""

from __future__ import annotations

from typing import Protocol

from eventvault.database.values import ScanQuery
from eventvault.past.values import CopyResult, DiffPage, DiffQuery, Exported, PastView
from eventvault.restore.values import Moment
from eventvault.rpc.markers import audited, changes, operation


class PastReader(Protocol):
    def resolve_moment(self, moment: Moment) -> PastView:
        """Make a moment readable through `scan` and `diff`; the present database is unchanged.

        Raises MomentUnavailable with the window and the nearest moments that are available; for an archive
        BackupNotFound, an ArchiveError or NoSpace.
        """

    def last_common(self, one: str, other: str) -> int | None:
        """The last sequence that two generations share; None if one of them is unknown."""

    def diff(self, query: DiffQuery) -> DiffPage:
        """A page of the difference of two moments that `resolve_moment` returned. Raises GenerationSuperseded."""

    @changes
    @operation("copy")
    @audited("copy")
    def copy_events_to_present(self, query: ScanQuery) -> CopyResult:
        """Append the events that `query` (with `upto`) finds in the past; those that are there already stay as is.

        Raises RestoreRunning if a restore comes in between; some of the events may be there then.
        """

    def check_export(self, query: ScanQuery) -> None:
        """Raise NoSpace if the disk has no room for a file of what `query` (with `upto`) finds."""

    @changes
    @operation("export")
    @audited("export")
    def export_events(self, query: ScanQuery) -> Exported:
        """Write the events that `query` (with `upto`) finds into a file of the store's own, which is there for a day.

        Raises NoSpace; then no file remains.
        """

    def export_path(self, operation_id: str) -> str:
        """The absolute path of the file that an operation wrote, for reading. Raises ExportNotFound."""
