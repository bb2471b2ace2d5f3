"""The answers to appended events and to an export, which is the `result` of its operation too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from eventvault import clock
from eventvault.events.event import Appended
from eventvault.past.values import Exported


class AppendedEvent(msgspec.Struct, gc=False, omit_defaults=True):
    """One event in the answer; `differs` is there only if it is true."""

    id: str
    sequence: int
    recordedtime: str
    duplicate: bool
    differs: bool = False


class AppendedEvents(msgspec.Struct, frozen=True, rename="camel"):
    """The answer to appended events. kafka: what came of waiting for Kafka; unset if the request does not wait."""

    success: bool
    accepted: int
    duplicates: int
    last_sequence: int
    results: list[AppendedEvent]
    kafka: str | msgspec.UnsetType = msgspec.UNSET

    def encoded(self) -> bytes:
        return msgspec.json.encode(self)


def exported_json(exported: Exported) -> dict[str, Any]:
    return {
        "success": True,
        "operation": exported.operation,
        "file": f"/api/operations/{exported.operation}/file",
        "events": exported.events,
        "lastSequence": exported.sequence,
        "generation": exported.generation,
        "bytes": exported.lines,
        "size": exported.size,
        "sha256": exported.sha256,
        "until": clock.format_milliseconds(exported.until),
    }


def describe_appended(ids: Sequence[str], results: Sequence[Appended], last_sequence: int) -> AppendedEvents:
    """Return the answer. ids, results: of each event, in order. last_sequence: of the registry."""
    duplicates = sum([result.duplicate for result in results])
    answers = [
        AppendedEvent(
            event_id, result.sequence, clock.format_microseconds(result.recorded), result.duplicate, result.differs
        )
        for event_id, result in zip(ids, results, strict=True)
    ]
    return AppendedEvents(True, len(results) - duplicates, duplicates, last_sequence, answers)
