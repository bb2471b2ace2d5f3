"""The rolling check: now and then the archive that was verified longest ago is read again, slowly.

A disk forgets in silence; what is found while other archives are good costs nothing. An archive that cannot be checked
has had its turn, too: it comes again after the others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from eventvault import clock
from eventvault.backups.catalogue import Catalogue
from eventvault.backups.entry import BackupEntry
from eventvault.backups.schedule import Scheduler
from eventvault.errors import ArchiveError, Cancelled, EventVaultError
from eventvault.settings import Settings

log = logging.getLogger("BackupManager")

BYTES_PER_SECOND = 64 * 2**20
"""Bytes a second: a check of 1 GB takes a quarter of a minute and leaves the disk to the service."""
FIRST_DELAY_MS = 600_000
"""Milliseconds from the start of the store to the first check, where SCRUB_INTERVAL is longer."""


class ArchiveScrub:
    """verify: checks one archive at `BYTES_PER_SECOND`, enters the result in the catalogue, raises what is wrong."""

    def __init__(
        self,
        settings: Settings,
        catalogue: Catalogue,
        verify: Callable[[str], BackupEntry],
        scheduler: Scheduler | None,
    ) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._verify = verify
        self._scheduler = scheduler
        self._failed: dict[str, int] = {}
        """When the check of an archive could not be made, in microseconds."""
        self._last: dict[str, Any] = {"lastRun": None, "lastOutcome": None}

    def start(self) -> None:
        if self._enabled and self._scheduler is not None:
            interval = self._settings.scrub_interval
            self._scheduler.every("scrub", interval, min(interval, FIRST_DELAY_MS), self.run)

    def run(self) -> None:
        """Check one archive; never raises: what is wrong with an archive stands in the catalogue."""
        self._last["lastRun"] = clock.format_milliseconds(clock.now())
        name = "no archive"
        try:
            chosen = self._choose()
            if chosen is None:
                self._last["lastOutcome"] = "skipped: there is nothing to check"
                return
            name = chosen.name
            self._failed[name] = clock.now()
            self._verify(name)
            del self._failed[name]
            self._last["lastOutcome"] = f"{name} is good"
        except Cancelled:
            return
        except (EventVaultError, OSError) as error:
            self._last["lastOutcome"] = self._said(name, error)

    def describe(self) -> dict[str, Any]:
        return {"enabled": self._enabled, "intervalMs": self._settings.scrub_interval, **self._last}

    def _choose(self) -> BackupEntry | None:
        entries = self._catalogue.entries()
        there = {entry.name for entry in entries}
        self._failed = {name: instant for name, instant in self._failed.items() if name in there}
        return choose(entries, self._failed)

    def _said(self, name: str, error: EventVaultError | OSError) -> str:
        if isinstance(error, ArchiveError) and self._is_marked(name):
            log.warning("the periodic check found %s damaged: %s", name, error)
            return f"{name} is damaged"
        log.warning("the periodic check of %s could not be made: %s", name, error)
        return f"failed: {error}"

    def _is_marked(self, name: str) -> bool:
        try:
            return self._catalogue.entry(name).problem is not None
        except (EventVaultError, OSError):
            return False

    @property
    def _enabled(self) -> bool:
        return self._scheduler is not None and self._settings.scrub_interval > 0


def choose(entries: Sequence[BackupEntry], failed: Mapping[str, int] = MappingProxyType({})) -> BackupEntry | None:
    """The archive that was verified longest ago, one that never was before all; none that is known to be damaged.

    failed: when archives were tried in vain, in microseconds; that counts as their turn.
    """
    good = [entry for entry in entries if entry.problem is None]
    turns = {entry.name: max(entry.verified or 0, failed.get(entry.name, 0)) for entry in good}
    return min(good, key=lambda entry: (turns[entry.name], entry.created, entry.name), default=None)
