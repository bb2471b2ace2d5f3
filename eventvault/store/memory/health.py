"""The double of the health: `ok`, unless a test adds problems."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from eventvault.restore.values import describe_last, describe_staged
from eventvault.store.memory.problems import MemoryProblems
from eventvault.store.memory.state import MemoryState, common_length
from eventvault.store.ports.health import Health


class MemoryHealth(Health):
    def __init__(self, state: MemoryState, problems: MemoryProblems) -> None:
        self._state = state
        self._problems = problems

    def _last_common(self, one: str, other: str) -> int | None:
        generations = self._state.generations
        return common_length(generations[one], generations[other]) if {one, other} <= generations.keys() else None

    def status(self) -> dict[str, Any]:
        state, entries = self._state, self._state.archives.entries()
        staged = describe_staged(state.staged)
        return {
            "status": "degraded" if self._problems.waiting else "ok",
            "problems": [problem.describe(acceptable=True) for problem in self._problems.waiting],
            "store": {
                "state": "open",
                "events": len(state.events),
                "lastSequence": len(state.events),
                "generation": state.generation,
            },
            "kafka": {"configured": False},
            "jobs": {"restore": {"running": False, "source": None, "since": None, "staged": staged}},
            "backup": {
                "available": True,
                "count": len(entries),
                "latest": msgspec.to_builtins(entries[0]) if entries else None,
                "totalSize": sum(entry.size for entry in entries),
                "keptBy": dict(Counter(rule for entry in entries for rule in entry.retained_by)),
            },
            "lastRestore": describe_last(state.last_restore, self._last_common),
            "metrics": {},
        }
