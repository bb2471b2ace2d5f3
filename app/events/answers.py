"""What the API answers when events were appended, and when an export is done, as the `result` of its operation too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eventvault import clock
from eventvault.events.event import Appended
from eventvault.past.values import Exported


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


def appended_json(ids: Sequence[str], results: Sequence[Appended], last_sequence: int) -> dict[str, Any]:
    """ids, results: of each event, in order. last_sequence: of the registry."""
    duplicates = sum(result.duplicate for result in results)
    return {
        "success": True,
        "accepted": len(results) - duplicates,
        "duplicates": duplicates,
        "lastSequence": last_sequence,
        "results": [_result(event_id, result) for event_id, result in zip(ids, results, strict=True)],
    }


def _result(event_id: str, result: Appended) -> dict[str, Any]:
    body = {
        "id": event_id,
        "sequence": result.sequence,
        "recordedtime": clock.format_microseconds(result.recorded),
        "duplicate": result.duplicate,
    }
    if result.differs:
        body["differs"] = True
    return body
