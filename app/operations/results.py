"""The `result` of an operation: the answer that the request would have got if it had waited."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from app.backup.answers import (
    copied_json,
    created_json,
    one_backup_json,
    pruned_json,
    rehearsed_json,
    restored_json,
    undone_json,
)
from app.events.answers import exported_json
from eventvault.store.ports import methods

ANSWERS: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    "create_backup": created_json,
    "verify_backup": one_backup_json,
    "prune_backups": pruned_json,
    "adopt_upload": one_backup_json,
    "restore": restored_json,
    "restore_moment": restored_json,
    "undo": undone_json,
    "rehearse": rehearsed_json,
    "copy_events_to_present": copied_json,
    "export_events": exported_json,
}
"""Method of the store → its result as the API answers it. Results of other methods are shown as they are."""


def result_json(method: str, result: bytes) -> Any:
    """Return the result of an operation; None if another version wrote it and this one cannot read it."""
    declaration = methods.ALL.get(method)
    try:
        if declaration is None or method not in ANSWERS:
            return msgspec.json.decode(result)
        return ANSWERS[method](msgspec.json.decode(result, type=declaration.result_type))
    except msgspec.MsgspecError:
        return None
