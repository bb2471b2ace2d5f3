"""The port to the past, read without a restore."""

from __future__ import annotations

from typing import Protocol

from eventvault.database.values import ScanQuery
from eventvault.past.values import CopyResult, DiffPage, DiffQuery, Exported, PastView
from eventvault.restore.values import Moment
from eventvault.rpc.markers import audited, changes, operation


class PastReader(Protocol):
    def resolve_moment(self, moment: Moment) -> PastView:
        """Make a moment readable through `scan` and `diff`; the current database is unchanged.

        Raises MomentUnavailable with the window and the nearest moments that are available; for an archive
        BackupNotFound, an ArchiveError or NoSpace.
        """

    def last_common(self, one: str, other: str) -> int | None:
        """Return the last sequence that two generations share; None if one of them is unknown."""

    def diff(self, query: DiffQuery) -> DiffPage:
        """Return a page of the difference of two moments from `resolve_moment`. Raises GenerationSuperseded."""

    @changes
    @operation("copy")
    @audited("copy")
    def copy_events_to_present(self, query: ScanQuery) -> CopyResult:
        """Append the events that `query` (with `upto`) finds in the past; events that exist already do not change.

        Raises RestoreRunning if a restore comes in between; then some of the events may have been appended.
        """

    def check_export(self, query: ScanQuery) -> None:
        """Raise NoSpace if the disk has no room for a file of the events that `query` (with `upto`) finds."""

    @changes
    @operation("export")
    @audited("export")
    def export_events(self, query: ScanQuery) -> Exported:
        """Write the events that `query` (with `upto`) finds to a file of the store, which stays for a day.

        Raises NoSpace; then no file remains.
        """

    def export_path(self, operation_id: str) -> str:
        """Return the absolute path of the file that an operation wrote, for reading. Raises ExportNotFound."""
