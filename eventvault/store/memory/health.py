"""The double of the health: always well."""

from __future__ import annotations

from typing import Any

from eventvault import clock
from eventvault.restore.values import Restored
from eventvault.store.memory.state import MemoryState
from eventvault.store.ports.health import Health


class MemoryHealth(Health):
    def __init__(self, state: MemoryState) -> None:
        self._state = state

    def status(self) -> dict[str, Any]:
        state, entries = self._state, self._state.archives.entries()
        return {
            "status": "ok",
            "problems": [],
            "store": {
                "state": "open",
                "events": len(state.events),
                "lastSequence": len(state.events),
                "generation": state.generation,
            },
            "kafka": None,
            "jobs": {"restore": {"running": False, "source": None, "since": None, "staged": _staged(state.staged)}},
            "backup": {
                "available": True,
                "count": len(entries),
                "latest": entries[0] if entries else None,
                "totalSize": sum(entry.size for entry in entries),
            },
            "lastRestore": _last_restore(state.last_restore),
            "metrics": {},
        }


def _staged(staged: Restored | None) -> dict[str, Any] | None:
    if staged is None:
        return None
    return {"source": staged.source, "since": clock.format_milliseconds(staged.at), "events": staged.events}


def _last_restore(restored: Restored | None) -> dict[str, Any] | None:
    if restored is None:
        return None
    return {
        "source": restored.source,
        "at": clock.format_milliseconds(restored.at),
        "events": restored.events,
        "notJson": restored.not_json,
        "durationMs": restored.duration,
    }
