"""Writes into the audit the store's own starts and stops, and an end for deeds that a killed process did not end."""

from __future__ import annotations

import logging
from typing import Any

from eventvault import __version__, clock
from eventvault import settings as all_settings
from eventvault.audit.deeds import Deed
from eventvault.audit.lines import CANCELLED, DONE, FAILED, INTERRUPTED, AuditEntry
from eventvault.audit.log import AuditLog
from eventvault.audit.reading import unfinished
from eventvault.operations.caller import START
from eventvault.operations.records import CANCELLED as CANCELLED_STATE
from eventvault.operations.records import FAILED as FAILED_STATE
from eventvault.operations.records import QUEUED, RUNNING, SUCCEEDED
from eventvault.operations.registry import OperationRegistry
from eventvault.settings import Settings

log = logging.getLogger("BackupManager")

DOWNLOAD, EXPORT = "download", "export"
STREAMED = "streamed"
"""In `details` of an export that a worker sends while it is read, without a file."""
_RESULTS = {SUCCEEDED: DONE, FAILED_STATE: FAILED, CANCELLED_STATE: CANCELLED}


class AuditOfStore:
    """service_starts: this is the first store of a start of the service. is_service: not a store for a command."""

    def __init__(
        self,
        settings: Settings,
        audit: AuditLog,
        registry: OperationRegistry,
        *,
        service_starts: bool,
        is_service: bool,
    ) -> None:
        self._settings = settings
        self._audit = audit
        self._deeds = registry.deeds
        self._registry = registry
        self._service_starts = service_starts
        self._is_service = is_service
        self._start: Deed | None = None
        self._begun_at = ""

    def begin_start(self) -> None:
        self._begun_at = clock.format_microseconds(clock.now())
        if self._service_starts and self._is_service:
            self._start = self._deeds.begin("start", START, details=_describe(self._settings))

    def end_start(self, events: int | None) -> None:
        """Note that the database is open; later calls do nothing."""
        start, self._start = self._start, None
        if start is not None:
            start.end(events=events)

    def end_interrupted(self) -> None:
        """Write an end for each deed that began before this store and that nobody carries on.

        The deeds of gunicorn's workers go on without a store, but not without the service.
        """
        for entry in self._unfinished():
            result = self._result_of(entry)
            if result is not None:
                Deed(self._deeds.write, entry).end(result, endedBy=START)

    def begin_stop(self) -> Deed | None:
        """Note that the store stops. Returns the deed to end once everything is on disk."""
        start, self._start = self._start, None
        if start is not None:
            start.end(INTERRUPTED)
        return self._deeds.begin("stop", START) if self._is_service else None

    def _unfinished(self) -> list[AuditEntry]:
        try:
            entries = unfinished(self._audit.chain.folder)
        except OSError as error:
            log.warning("deeds without an end cannot be found: %s", error)
            return []
        return [entry for entry in entries if entry.at < self._begun_at]

    def _result_of(self, entry: AuditEntry) -> str | None:
        """Return what became of a deed; None if it goes on."""
        if entry.action == DOWNLOAD or STREAMED in entry.details:
            return INTERRUPTED if self._service_starts else None
        state = self._registry.last_state(entry.operation)
        return None if state in (QUEUED, RUNNING) else _RESULTS.get(state, INTERRUPTED)


def _describe(settings: Settings) -> dict[str, Any]:
    """Return the version, and the settings that are not at their default, as `GET /api/settings` shows them."""
    described = all_settings.describe(settings)
    changed = {setting["name"]: setting["value"] for setting in described if setting["source"] != "default"}
    return {"version": __version__, "settings": changed}
