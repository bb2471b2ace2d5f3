"""What is asked of a restore and what it answers with."""

from __future__ import annotations

from typing import Any

import msgspec


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """A moment of the past, as it is asked for: with one of instant, sequence and archive, or none for the present.

    instant: microseconds since the epoch, everything recorded up to it. sequence: that event is the last. generation:
    in which one, None for the lineage of the present one. archive: what the archive of that name holds.
    """

    instant: int | None = None
    sequence: int | None = None
    generation: str | None = None
    archive: str | None = None


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
