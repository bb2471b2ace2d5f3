"""What is asked of the store and what it answers with: `eventvault.store.interface` has the calls."""

from __future__ import annotations

from typing import Any

import msgspec

from eventvault.event import Appended
from eventvault.store.generation import is_id


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

    of: the generation whose events they are, where `generation` names a copy that was made for its readers; None for
    that of a foreign archive.
    """

    generation: str
    sequence: int
    of: str | None = None

    @property
    def generation_id(self) -> str | None:
        """What an answer calls its generation; None for a foreign archive's copy, whose events are of none."""
        return self.of or (self.generation if is_id(self.generation) else None)


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
