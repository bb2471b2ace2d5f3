"""The store's interface: the same in the process that owns the database and in those that reach it by socket.

`eventvault.store.service.StoreService` is the real thing, `eventvault.store.rpc.client.StoreClient` reaches it through
`STORAGE_DIR/store.sock`; both pass the same contract tests. Every method may raise StoreUnavailable,
StoreRestoring, or a DatabaseError that says why the database is not open, and is safe to call from many threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from eventvault.backups.entry import BackupEntry, Created
from eventvault.database.values import AppendResult, Page, ScanQuery
from eventvault.events.event import EventDraft
from eventvault.past.values import CopyResult, DiffPage, DiffQuery, PastView
from eventvault.restore.values import KeptEntry, Moment, Restored


class GenerationHold(Protocol):
    """A context manager. renew: call it before each scan, so that a store that took over knows of the hold."""

    def __enter__(self) -> GenerationHold: ...

    def renew(self) -> None: ...

    def __exit__(self, *exception: object) -> None: ...


class Store(Protocol):
    def append(self, drafts: Sequence[EventDraft]) -> AppendResult:
        """Append all drafts or none, durably: when this returns they are on disk."""

    def get(self, event_id: str, source: str | None = None, recorded_to: int | None = None) -> bytes:
        """The event's JSON. Raises EventNotFound, or InvalidInput where several sources share the id.

        recorded_to: only what was recorded by then counts (microseconds, inclusive).
        """

    def scan(self, query: ScanQuery) -> Page:
        """Raises GenerationLeftBehind for a cursor beyond the fork of a generation that is not kept."""

    def resolve_moment(self, moment: Moment) -> PastView:
        """Make a moment of the past readable, without a restore; read-only, and on nobody's account but the reader's.

        Raises MomentUnavailable for one that cannot be had, with the window and the nearest ones that can be;
        BackupNotFound, an ArchiveError or NoSpace where it takes an archive.
        """

    def last_common(self, one: str, other: str) -> int | None:
        """The last sequence that two generations share; None where one of them is not known."""

    def diff(self, query: DiffQuery) -> DiffPage:
        """A page of the difference of two moments that `resolve_moment` gave. Raises GenerationLeftBehind."""

    def copy_events_to_present(self, query: ScanQuery) -> CopyResult:
        """Append what `query` (with `upto`) finds in the past. Raises RestoreRunning; then part of it may be there."""

    def hold_generation(self, generation: str) -> GenerationHold:
        """Keep a generation readable through `scan` with `upto`, for as long as the context lasts."""

    def status(self) -> dict[str, Any]:
        """The store's part of `/api/health`, ready to be serialised; answers at once, whatever else is going on.

        `status` ("ok", "degraded", "restoring"), `problems` [{code, message, hint}], `store` {state, events,
        lastSequence, storeId, generation, pid, since}, `kafka`, `jobs`, `backup` {available, count, latest,
        totalSize} with `latest` as `BackupEntry` members, `lastRestore`; `metrics`: numbers for `/metrics`.
        """

    def create_backup(self, label: str | None = None) -> Created:
        """Back up now; what was acknowledged before the call is inside. Raises NoSpace."""

    def list_backups(self) -> list[BackupEntry]:
        """Newest first."""

    def backup_manifest(self, name: str) -> dict[str, Any]:
        """The archive's `manifest.json`, of a foreign archive an empty dict. Raises BackupNotFound."""

    def backup_path(self, name: str) -> str:
        """The absolute path of the archive, for reading. Raises BackupNotFound."""

    def adopt_upload(self, temporary: str, name: str) -> BackupEntry:
        """Check the archive `temporary` (a file in `BACKUP_DIR`, synced) and enter it as `name`.

        Asked again for the same one (a store may end before it answers), it answers as it did, or would have.
        Raises BackupExists, NoSpace, or an ArchiveError that says what is wrong; then there is no archive of that name
        but another's, and `temporary` is left to the caller where it is still there.
        """

    def verify_backup(self, name: str) -> BackupEntry:
        """Check an archive from end to end: checksums, LevelDB's own, every record, the sequence, the counts.

        Raises BackupNotFound, NoSpace, or an ArchiveError that says what is wrong; then the archive is marked with it
        and counts as good no longer.
        """

    def delete_backup(self, name: str, *, force: bool = False) -> None:
        """Raises BackupNotFound; BackupProtected for the last good one without `force`, or one being read."""

    def pin_backup(self, name: str, *, pinned: bool) -> BackupEntry:
        """A pinned archive is never removed by rotation. Raises BackupNotFound."""

    def restore(self, name: str, *, staged: bool = False) -> Restored:
        """Restore the archive `name`, applied when this returns; staged: at the next start of the service.

        Raises BackupNotFound, RestoreRunning, NoSpace, or an ArchiveError; then what was there is as it was.
        """

    def undo(self, name: str | None = None) -> Restored:
        """Bring back what the newest restore left behind, or the kept database `name`; applied when this returns.

        Itself it can be undone. Raises NothingToUndo, UndoNotFound, RestoreRunning, NoSpace, or ArchiveDamaged where
        what was kept cannot be read; then what was there is as it was.
        """

    def accept_loss(self, partition: int) -> None:
        """Have a stopped partition of Kafka go on at its present beginning, in a moment. Raises PartitionNotStopped."""

    def list_undo(self) -> list[KeptEntry]:
        """What `undo` can bring back, newest first."""

    def restore_moment(self, moment: Moment, *, staged: bool = False) -> Restored:
        """As `restore`, to a moment. Raises MomentUnavailable, with the window, for one that cannot be had."""

    def plan_restore(self, asked: Moment | str) -> dict[str, Any]:
        """What a restore of a moment, or of the archive of that name, would do: the members of `plan` in the API.

        Nothing is changed. Raises what the restore would raise before it begins, NoSpace excepted, and the ArchiveError
        of an archive that is known to be damaged or whose ends show it.
        """

    def timeline(self) -> dict[str, Any]:
        """What can be restored, ready to be drawn: `window`, `generations`, `archives`, `segments`, `gaps`."""
