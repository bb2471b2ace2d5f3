"""The values of a restore: what a request asks for, and what its answer has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from eventvault import clock
from eventvault.backups.entry import Check
from eventvault.database.generation import REASONS_WITHOUT_RESTORE, UNDONE

POINT_IN_TIME, RECOVERED = "point in time", "recovered"
"""Reasons of the generations that begin with a restore to a moment, and with the recovery of a lost database."""


KINDS = {POINT_IN_TIME: "moment", UNDONE: "undo", RECOVERED: "recovered"}
"""Reason → `kind` in `lastRestore` of health; every other reason is that of a `backup`."""


def kind_of(reason: str) -> str:
    """Return the `kind` of the restore that begins generations for `reason`; `rolled_back` if no restore does."""
    return "rolled_back" if reason in REASONS_WITHOUT_RESTORE else KINDS.get(reason, "backup")


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """A moment as a request names it: by one of instant, sequence and archive, or by none for the newest.

    instant: microseconds since the epoch; includes all events recorded up to it. sequence: of the last event.
    generation: None for the lineage of the current one. archive: the name of an archive, for what it holds.
    """

    instant: int | None = None
    sequence: int | None = None
    generation: str | None = None
    archive: str | None = None


class UndoTarget(msgspec.Struct, frozen=True):
    """The previous database that undoes a restore. events: its last sequence; None if it cannot be read."""

    name: str
    generation: str
    events: int | None = None


class ReplacedEvents(msgspec.Struct, frozen=True):
    """Events that a restore replaces. first, last: without their data; None if they cannot be read."""

    count: int
    first: dict[str, Any] | None = None
    last: dict[str, Any] | None = None


class RestoredMoment(msgspec.Struct, frozen=True):
    """The moment that was restored. sequence: of its last event.

    time: the instant that was asked for, else that of this event, in microseconds; None if there is no event.
    """

    sequence: int
    time: int | None = None


class PreviousEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A previous database. replaced_at: microseconds. source: what was restored in its place.

    moment: set if a restore to that moment replaced it. size: bytes of its files, including those that other databases
    share by hard link.
    """

    name: str
    generation: str | None
    events: int | None
    replaced_at: int = msgspec.field(name="left")
    source: str | None
    size: int
    moment: RestoredMoment | None = None


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a restore or an undo. at: microseconds; duration: milliseconds; source: the archive's name.

    staged: the next start of the service replaces the database. undo: the previous database, None if none can be
    brought back. replaced_events: of an undo, the events posted since the restore. unfinished_jobs: how many jobs were
    created after the moment that was restored; cancelled_jobs: how many of them were cancelled.
    """

    source: str
    at: int
    events: int
    not_json: int
    duration: int
    staged: bool = False
    generation: str | None = None
    notes: list[str] = []
    """What the import ignored or changed, in sentences."""
    checked: Check | None = None
    """How the restored content was checked; None for a previous database."""
    proven: bool | None = None
    """Whether its source was proven to be made here, or is trusted; None if an earlier version restored it."""
    reason: str = "restored"
    """Why the new generation began: `restored`, `point in time`, `undone`, `recovered` (a lost database)."""
    moment: RestoredMoment | None = None
    """Of a restore to a moment."""
    undo: UndoTarget | None = None
    replaced_events: ReplacedEvents | None = msgspec.field(name="left_behind", default=None)
    unfinished_jobs: int | None = None
    cancelled_jobs: int | None = None
    replay: bool = False
    """Kafka's topics are read again from that moment on."""


LastCommon = Callable[[str, str], int | None]
"""Returns the last sequence that two generations share, None if that is not known."""


def describe_last(restored: Restored | None, last_common: LastCommon) -> dict[str, Any] | None:
    """Return the member `lastRestore` of `/api/health`."""
    if restored is None:
        return None
    moment, undo = restored.moment, restored.undo
    behind = restored.replaced_events or _events_replaced(restored, last_common)
    return {
        "kind": KINDS.get(restored.reason, "backup"),
        "source": restored.source,
        "moment": moment_json(moment),
        "undo": None if undo is None else msgspec.structs.asdict(undo),
        "leftBehind": None if behind is None else msgspec.structs.asdict(behind),
        "at": clock.format_milliseconds(restored.at),
        "events": restored.events,
        "notJson": restored.not_json,
        "durationMs": restored.duration,
        "generation": restored.generation,
        "notes": restored.notes,
        "reason": restored.reason,
        "proven": restored.proven,
    }


def _events_replaced(restored: Restored, last_common: LastCommon) -> ReplacedEvents | None:
    """Count the events that the replaced database had and the new one has not, once the restore is done."""
    replaced, generation = restored.undo, restored.generation
    if replaced is None or replaced.events is None or generation is None:
        return None
    common = last_common(replaced.generation, generation)
    return None if common is None else ReplacedEvents(max(0, replaced.events - common))


def moment_json(moment: RestoredMoment | None) -> dict[str, Any] | None:
    if moment is None:
        return None
    time = clock.optional_microseconds(moment.time)
    return {"time": time, "sequence": moment.sequence}


def describe_staged(staged: Restored | None) -> dict[str, Any] | None:
    """Return the member `jobs.restore.staged` of `/api/health`."""
    if staged is None:
        return None
    return {"source": staged.source, "since": clock.format_milliseconds(staged.at), "events": staged.events}
