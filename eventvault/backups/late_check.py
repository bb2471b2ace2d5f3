"""Checks the many new tables of a first backup at low priority, after its archive was named.

Until then the archive is in the catalogue as not verified, so that nothing relies on it, and no other backup is made.
If the store ends first, the archive stays so until the scrub reads it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from eventvault import clock
from eventvault.backups.catalogue import Catalogue
from eventvault.chores import Chores
from eventvault.damage import as_answer
from eventvault.errors import (
    ArchiveError,
    ArchiveUnreadable,
    BackupNotFound,
    Cancelled,
    DatabaseDamaged,
    EventVaultError,
)
from eventvault.files import FileIdentity
from eventvault.progress import WAIT_SECONDS, Activity, running, wait_for_thread


class LateCheck:
    """Runs one check at a time, and enters its result in the catalogue."""

    def __init__(self, catalogue: Catalogue, chores: Chores) -> None:
        self._catalogue = catalogue
        self._chores = chores
        self._thread: threading.Thread | None = None
        self._activity: Activity | None = None

    def start(
        self,
        staging: Path,
        tables: list[str],
        compressed: list[str],
        name: str,
        named: FileIdentity,
        on_whole: Callable[[], None],
        on_failure: Callable[[EventVaultError], None],
        on_end: Callable[[], None],
    ) -> None:
        """Check these tables of the checkpoint in `staging` for the archive `name`, the file that was `named` so.

        compressed: files of the archive whose members are inflated and compared too.
        on_whole: called once the archive is verified. on_failure: called with DatabaseDamaged once the archive is
        marked, or with why the check could not be made. on_end: called in any case, last.
        """

        def run() -> None:
            try:
                with running("check of new tables", f"checks {name}") as self._activity:
                    self._check(staging, tables, compressed, name, named)
            except (Cancelled, BackupNotFound):
                return
            except EventVaultError as error:
                on_failure(error)
            except OSError as error:
                on_failure(as_answer(f"checking the tables of {name}", error))
            else:
                on_whole()
            finally:
                on_end()

        self._thread = threading.Thread(target=run, name="table-check", daemon=True)
        self._thread.start()

    def wait(self, seconds: float = WAIT_SECONDS) -> None:
        """Wait for the end of the running check, if there is one. Raises TooBusy if it makes no step for `seconds`."""
        if self._thread is not None:
            wait_for_thread(self._thread, "the check of new tables", lambda: self._activity, seconds)

    def _check(self, staging: Path, tables: list[str], compressed: list[str], name: str, named: FileIdentity) -> None:
        try:
            self._chores.run("check_tables", folder=str(staging), names=tables)
            self._chores.run("check_content", archive=self._catalogue.entry(name).path, names=compressed)
        except ArchiveUnreadable:
            raise
        except (DatabaseDamaged, ArchiveError) as error:
            with suppress(EventVaultError):  # the damage is told even if the archive is gone or cannot be marked
                self._catalogue.record_problem(name, error.message, read=named)
            raise
        entry = self._catalogue.entry(name)
        if entry.verified is None and entry.problem is None:  # else a request has read the archive meanwhile
            self._catalogue.record_verified(name, verified=clock.now(), content_checked=True, read=named)
