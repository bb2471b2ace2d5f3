"""The port to the state of the store."""

from __future__ import annotations

from typing import Any, Protocol

from eventvault.rpc.markers import deadline


class Health(Protocol):
    @deadline(1.0)
    def status(self) -> dict[str, Any]:
        """Return the store's part of `/api/health`, ready to be serialised; answers at once, also during long work.

        `status` ("ok", "degraded", "restoring"), `problems` [{code, message, hint}], `store` {state, events,
        lastSequence, storeId, generation, pid, since}, `kafka`, `jobs`, `backup` {available, count, latest,
        totalSize} with `latest` as `BackupEntry` members, `lastRestore`; `metrics`: numbers for `/metrics`.
        """
