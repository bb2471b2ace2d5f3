"""How the API and the command line describe an operation."""

from __future__ import annotations

from typing import Any

from app.error_codes import error_body
from app.operations.results import result_json
from eventvault import clock
from eventvault.operations.entry import OperationEntry

KINDS = (
    "create", "restore", "undo", "verify", "rehearse", "prune", "upload", "copy", "export", "import", "recover",
    "startup",
)  # fmt: skip


def operation_json(entry: OperationEntry) -> dict[str, Any]:
    progress = entry.progress
    return {
        "id": entry.id,
        "kind": entry.kind,
        "state": entry.state,
        "startedBy": entry.started_by,
        "startedAt": clock.format_milliseconds(entry.started_at),
        "endedAt": clock.optional_milliseconds(entry.ended_at),
        "progress": round(progress.fraction, 4),
        "step": progress.step,
        "bytesDone": progress.bytes_done,
        "bytesTotal": progress.bytes_total,
        "bytesPerSecond": progress.bytes_per_second,
        "remainingSeconds": progress.remaining_seconds,
        "cancellable": entry.cancellable,
        "cancelRequested": entry.cancel_requested,
        "result": None if entry.result is None else result_json(entry.method, entry.result),
        "error": None if entry.error is None else _error(entry.error),
    }


def _error(wire: dict[str, Any]) -> dict[str, Any]:
    body = error_body(wire["code"], wire["message"], wire["hint"], wire.get("details"))
    del body["success"]
    return body
