"""Checks the many new tables of a first backup at low priority, after its archive was named.

Until then the archive is in the catalogue as not verified, so that nothing relies on it, and no other backup is made.
If the store ends first, the archive stays so until the scrub reads it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from eventvault import clock
from eventvault.archive.manifest import Manifest
from eventvault.backups.catalogue import Catalogue
from eventvault.backups.written import WrittenBackup
from eventvault.chores import Chores
from eventvault.damage import as_answer
from eventvault.database.checkpoint import Checkpoint
from eventvault.errors import ArchiveError, ArchiveUnreadable, DatabaseDamaged, EventVaultError
from eventvault.progress import WAIT_SECONDS, Activity, running, wait_for_thread


@dataclass(frozen=True)
class UncheckedBackup:
    """A backup that is named, with tables that must be checked yet.

    name: of its archive. previous: names of the previous databases that existed at the checkpoint.
    """

    name: str
    checkpoint: Checkpoint[Manifest]
    written: WrittenBackup
    previous: list[str]


class LateCheck:
    """Checks the tables of one backup at a time, in a thread of its own."""

    def __init__(self, catalogue: Catalogue, chores: Chores) -> None:
        self._catalogue = catalogue
        self._chores = chores
        self._thread: threading.Thread | None = None
        self._activity: Activity | None = None

    def start(self, run: Callable[[UncheckedBackup], None], backup: UncheckedBackup) -> None:
        """Run `run`, which calls `check`, in the thread. The earlier one has ended (`wait`)."""
        self._thread = threading.Thread(target=run, args=(backup,), name="table-check", daemon=True)
        self._thread.start()

    def wait(self, seconds: float = WAIT_SECONDS) -> None:
        """Wait for the end of the thread, if there is one. Raises TooBusy if it makes no step for `seconds`."""
        if self._thread is not None:
            wait_for_thread(self._thread, "the check of new tables", lambda: self._activity, seconds)

    def check(self, backup: UncheckedBackup) -> None:
        """Check the tables and the compressed members, and mark the archive as verified or as damaged.

        Raises DatabaseDamaged or ArchiveError if it is damaged, BackupNotFound if the archive was deleted meanwhile,
        Cancelled if the store stops, or why the check could not be made.
        """
        name = backup.name
        try:
            with running("check of new tables", f"checks {name}") as self._activity:
                self._check_tables(backup)
                entry = self._catalogue.entry(name)
                if entry.verified is None and entry.problem is None:  # else a request has read the archive meanwhile
                    self._catalogue.record_verified(
                        name, verified=clock.now(), content_checked=True, read=backup.written.identity
                    )
        except OSError as error:
            raise as_answer(f"checking the tables of {name}", error) from error

    def _check_tables(self, backup: UncheckedBackup) -> None:
        name, written = backup.name, backup.written
        try:
            self._chores.run("check_tables", folder=str(backup.checkpoint.folder), names=written.unchecked)
            self._chores.run("check_content", archive=self._catalogue.entry(name).path, names=written.compressed)
        except ArchiveUnreadable:
            raise
        except (DatabaseDamaged, ArchiveError) as error:
            with suppress(EventVaultError):  # the damage is reported even if the archive cannot be marked
                self._catalogue.record_problem(name, error.message, read=written.identity)
            raise
