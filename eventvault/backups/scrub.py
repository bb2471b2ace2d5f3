"""The scrub: every SCRUB_INTERVAL, the archive that was verified longest ago is read again, slowly.

Damage that is found while other archives are good costs nothing. An archive that cannot be checked loses its turn and
comes again after the others.
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
from eventvault.database.generation import NO_BOUND
from eventvault.errors import ArchiveError, Cancelled, EventVaultError
from eventvault.settings import Settings

log = logging.getLogger("BackupManager")

BYTES_PER_SECOND = 64 * 2**20
"""A check of 1 GB takes 16 s at this rate, which leaves most of the disk's time to the service."""
FIRST_DELAY_MS = 600_000
"""From the start of the store to the first check, if SCRUB_INTERVAL is longer."""


class ArchiveScrub:
    """Checks archives in turn. verify: checks one at `BYTES_PER_SECOND`, updates the catalogue, raises its problem."""

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
        """Archive → when its check could not be made, in microseconds."""
        self._last: dict[str, Any] = {"lastRun": None, "lastOutcome": None}

    def start(self) -> None:
        if self._enabled and self._scheduler is not None:
            interval = self._settings.scrub_interval
            self._scheduler.every("scrub", interval, min(interval, FIRST_DELAY_MS), self.run)

    def run(self) -> None:
        """Check one archive. Never raises: the catalogue has the problem of a damaged archive."""
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
            self._last["lastOutcome"] = self._describe_failure(name, error)

    def describe(self) -> dict[str, Any]:
        next_run = self._scheduler.next_run("scrub") if self._scheduler is not None else None
        return {
            "enabled": self._enabled,
            "intervalMs": self._settings.scrub_interval,
            "nextRun": clock.optional_milliseconds(next_run),
            **self._last,
        }

    def _choose(self) -> BackupEntry | None:
        entries = self._catalogue.entries()
        present = {entry.name for entry in entries}
        self._failed = {name: instant for name, instant in self._failed.items() if name in present}
        return choose(entries, self._failed, clock.now())

    def _describe_failure(self, name: str, error: EventVaultError | OSError) -> str:
        if isinstance(error, ArchiveError) and self._is_marked(name):
            log.warning("the scrub found %s damaged: %s", name, error)
            return f"{name} is damaged"
        log.warning("the scrub could not check %s: %s", name, error)
        return f"failed: {error}"

    def _is_marked(self, name: str) -> bool:
        try:
            return self._catalogue.entry(name).problem is not None
        except (EventVaultError, OSError):
            return False

    @property
    def _enabled(self) -> bool:
        return self._scheduler is not None and self._settings.scrub_interval > 0


def choose(
    entries: Sequence[BackupEntry], failed: Mapping[str, int] = MappingProxyType({}), now: int = NO_BOUND
) -> BackupEntry | None:
    """Return the archive that was verified longest ago, or never; None if all are known to be damaged.

    failed: archive → when its check could not be made, in microseconds, which counts as its turn. now: a later
    instant comes from a clock that was ahead, and counts as none.
    """
    good = [entry for entry in entries if entry.problem is None]
    instants = {entry.name: (entry.verified or 0, failed.get(entry.name, 0)) for entry in good}
    turns = {name: max((instant for instant in both if instant <= now), default=0) for name, both in instants.items()}
    return min(good, key=lambda entry: (turns[entry.name], entry.created, entry.name), default=None)
