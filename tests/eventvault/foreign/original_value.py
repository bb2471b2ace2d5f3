"""The way back from an event to the foreign record that it was made of: what an import must not lose."""

from __future__ import annotations

import base64
from typing import Any

import orjson


def original_value(event: dict[str, Any]) -> Any:
    """Return the value of a record from its event: bytes if it is in `data_base64`, else a JSON value.

    A record that became attributes comes back with the defaults for missing members, and its time as `time`.
    """
    content = base64.b64decode(event["data_base64"]) if "data_base64" in event else event.get("data")
    if event.get("originalrecord"):
        return content
    record: dict[str, Any] = {
        name: event[name] for name in ("id", "source", "type", "time", "subject") if name in event
    }
    if "data" in event or "data_base64" in event:
        record["data"] = content
    restated = orjson.loads(event.get("originalmembers", "{}"))
    if "timestamp" in restated:
        record.pop("time", None)
    return {**record, **restated}
