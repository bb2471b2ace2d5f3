"""The store's interface: the same in the process that owns the database and in those that reach it by socket.

`eventvault.store.service.StoreService` is the real thing, `eventvault.store.client.StoreClient` reaches it through
`STORAGE_DIR/store.sock`; both pass the same contract tests. Every method may raise StoreUnavailable,
StoreRestoring, or a DatabaseError that says why the database is not open, and is safe to call from many threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from eventvault.event import Appended, EventDraft


class AppendResult(msgspec.Struct, array_like=True, frozen=True):
    """results: one per draft, in order. last_sequence: of the registry, with these inside."""

    results: list[Appended]
    last_sequence: int


class ScanQuery(msgspec.Struct, frozen=True, kw_only=True):
    """A page of events, oldest first.

    after: events beyond this sequence. generation: the one that `after` and `upto` were read in (None: the present
    one); after a restore an older generation's events are served as long as what was there before is kept.
    upto: at most this sequence (None: what is there). recorded_from, recorded_to: inclusive, microseconds.
    limit: 1 to 1,000 events; a page may be shorter and yet have a `next`, so that one call stays short.
    """

    after: int = 0
    upto: int | None = None
    generation: str | None = None
    limit: int = 100
    type: str | None = None
    subject: str | None = None
    source: str | None = None
    recorded_from: int | None = None
    recorded_to: int | None = None


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """A moment of the past, as it is asked for: with one of instant, sequence and archive, or none for the present.

    instant: microseconds since the epoch, everything recorded up to it. sequence: that event is the last. generation:
    in which one, None for the lineage of the present one. archive: what the archive of that name holds.
    """

    instant: int | None = None
    sequence: int | None = None
    generation: str | None = None
    archive: str | None = None


class View(msgspec.Struct, frozen=True):
    """A moment that can be read: `ScanQuery` with this generation, and this sequence as `upto`.

    of: the generation whose events they are, where `generation` names a copy that was made for its readers.
    """

    generation: str
    sequence: int
    of: str | None = None


class DiffQuery(msgspec.Struct, frozen=True):
    """What `one` and `other` have that the other has not. at: the `next` of the page before."""

    one: View
    other: View
    at: tuple[int, int] | None = None


class DiffPage(msgspec.Struct, frozen=True):
    """lines: JSON objects as `eventvault.past.diff` describes them, and how many of each kind. next: None at the end.

    common: the last sequence that both share by their lineage; what is up to it was not looked at.
    """

    lines: list[bytes]
    next: tuple[int, int] | None
    only_one: int
    only_other: int
    different: int
    common: int


class Taken(msgspec.Struct, frozen=True):
    """How many events a part of the past has; of these appended, there already, and appended under another id."""

    matched: int
    appended: int
    already_there: int
    renamed: int
    last_sequence: int


class Page(msgspec.Struct, frozen=True):
    """events: UTF-8 JSON objects. next: the `after` of the next page, None at the end.

    last_sequence: of the generation that was read. generation: its id.
    """

    events: list[bytes]
    next: int | None
    last_sequence: int
    generation: str


class BackupEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One archive in `backups/`. Unknown values are None. size in bytes, created and verified in microseconds."""

    name: str
    path: str
    size: int
    created: int
    label: str | None = None
    events: int | None = None
    sequence: int | None = None
    generation: str | None = None
    verified: int | None = None
    pinned: bool = False
    encrypted: bool = False
    offsite: bool = False
    sha256: str | None = None
    proven: bool = False
    """Every record was read from the bytes that `sha256` is of: a restore of the same need not do it again."""
    origin: str = "found"
    """`created` by this installation, `uploaded`, or `found` in the folder."""
    problem: str | None = None
    """What is wrong with the archive, where something is."""


class Created(msgspec.Struct, frozen=True):
    """The answer to `create_backup`. duration in milliseconds."""

    backup: BackupEntry
    duration: int


class Undo(msgspec.Struct, frozen=True):
    """What undoes a restore: the database that it left behind, by its name, with what it holds.

    events: their number, which is also the last one's sequence; None where it could not be read.
    """

    name: str
    generation: str
    events: int | None = None


class LeftBehind(msgspec.Struct, frozen=True):
    """Events that are there no more. first, last: without the data; None where they cannot be read."""

    count: int
    first: dict[str, Any] | None = None
    last: dict[str, Any] | None = None


class KeptEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A database that a restore left behind. left: when, in microseconds. source: what was restored in its place.

    size: bytes of its files; those that it shares with other databases by hard link are counted too.
    """

    name: str
    generation: str | None
    events: int | None
    left: int
    source: str | None
    size: int


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """What a restore or an undo did. at: microseconds; duration: milliseconds; source: the archive's name.

    staged: nothing was applied yet, the next start of the service will. undo: what was left behind by it, None where
    nothing that can be brought back was. left_behind: of an undo, the events that were posted since the restore.
    """

    source: str
    at: int
    events: int
    not_json: int
    duration: int
    staged: bool = False
    generation: str | None = None
    notes: list[str] = []
    """What was ignored or changed on the way in, in sentences."""
    reason: str = "restored"
    """Why the new generation began: `restored`, `point in time`, `recovered` (a lost database)."""
    undo: Undo | None = None
    left_behind: LeftBehind | None = None


class Hold(Protocol):
    """A context manager. renew: call it before each scan, so that a store that took over knows of the hold."""

    def __enter__(self) -> Hold: ...

    def renew(self) -> None: ...

    def __exit__(self, *exception: object) -> None: ...


class Store(Protocol):
    def append(self, drafts: Sequence[EventDraft]) -> AppendResult:
        """Append all drafts or none, durably: when this returns they are on disk."""

    def get(self, event_id: str, source: str | None = None) -> bytes:
        """The event's JSON. Raises EventNotFound, or InvalidInput where several sources share the id."""

    def scan(self, query: ScanQuery) -> Page:
        """Raises GenerationLeftBehind for a cursor beyond the fork of a generation that is not kept."""

    def look_back(self, moment: Moment) -> View:
        """Make a moment of the past readable, without a restore; read-only, and on nobody's account but the reader's.

        Raises MomentUnavailable for one that cannot be had, with the window and the nearest ones that can be;
        BackupNotFound, an ArchiveError or NoSpace where it takes an archive.
        """

    def diff(self, query: DiffQuery) -> DiffPage:
        """A page of the difference of two moments that `look_back` gave. Raises GenerationLeftBehind."""

    def take_part(self, query: ScanQuery) -> Taken:
        """Append what `query` (with `upto`) finds in the past. Raises RestoreRunning; then part of it may be there."""

    def hold_generation(self, generation: str) -> Hold:
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

        Raises BackupExists, or an ArchiveError that says what is wrong; then `temporary` is left to the caller.
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

        Nothing is changed. Raises what the restore would raise before it begins, NoSpace excepted.
        """

    def timeline(self) -> dict[str, Any]:
        """What can be restored, ready to be drawn: `window`, `generations`, `archives`, `segments`, `gaps`."""
