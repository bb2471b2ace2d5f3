"""What the API answers when an export is done, also as the `result` of its operation."""

from __future__ import annotations

from typing import Any

from eventvault import clock
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
