"""Verifying an archive, on request or by the scrub, and recording the result."""

from __future__ import annotations

import logging
import threading
from typing import Any

from eventvault import clock
from eventvault.backups import table_digests
from eventvault.backups.catalogue import Catalogue
from eventvault.backups.entry import BackupEntry
from eventvault.backups.scrub import BYTES_PER_SECOND
from eventvault.chores import Chores
from eventvault.errors import ArchiveError, ArchiveIncomplete, ArchiveTooNew, ArchiveUnreadable, BackupNotFound, NoSpace
from eventvault.files import FileIdentity
from eventvault.settings import Settings

log = logging.getLogger("BackupManager")


class Verifier:
    """Checks archives, one at a time, and enters the results in the catalogue."""

    def __init__(self, settings: Settings, catalogue: Catalogue, chores: Chores) -> None:
        self.counts = {"verified": 0, "damaged": 0}
        self._settings = settings
        self._catalogue = catalogue
        self._chores = chores
        self._one_at_a_time = threading.Lock()

    def verify(self, name: str) -> BackupEntry:
        """Check everything: the archive's checksums and LevelDB's, every record, the sequence, the counts.

        Raises BackupNotFound, NoSpace, or the ArchiveError that describes the damage. Then the archive is marked as
        damaged, and the next backup copies nothing from it and reads every table.
        """
        return self._check(name, records=True, rate=0)

    def scrub(self, name: str) -> BackupEntry:
        """Check slowly what `verify` checks, but skip the records if they were read from the same bytes before.

        The records are also skipped if they do not fit on the disk. The archive's checksums need no space and find rot.
        """
        records = not self._catalogue.entry(name).records_verified
        try:
            return self._check(name, records=records, rate=BYTES_PER_SECOND)
        except NoSpace as error:
            if not records:
                raise
            log.warning("the records of %s are not checked: %s", name, error)
            return self._check(name, records=False, rate=BYTES_PER_SECOND)

    def _check(self, name: str, *, records: bool, rate: int) -> BackupEntry:
        with self._one_at_a_time:
            read, entry = self._catalogue.identity(name), self._catalogue.entry(name)
            result = self._read(entry, read, records=records, rate=rate)
            unchanged = entry.records_verified and (result["digest"] or result["sha256"]) == entry.checksum
            self.counts["verified"] += 1
            log.info("%s was verified", name)
            return self._catalogue.record_verified(
                name,
                verified=clock.now(),
                digest=result["digest"],
                sha256=result["sha256"],
                records_verified=result["records"] or unchanged,
                read=read,
            )

    def _read(self, entry: BackupEntry, read: FileIdentity, *, records: bool, rate: int) -> dict[str, Any]:
        scratch = str(self._settings.storage_dir)
        try:
            return self._chores.run("check_archive", archive=entry.path, scratch=scratch, records=records, rate=rate)
        except (ArchiveTooNew, ArchiveUnreadable):
            raise
        except ArchiveError as error:
            self._mark_damaged(entry.name, read, error)
            raise

    def _mark_damaged(self, name: str, read: FileIdentity, error: ArchiveError) -> None:
        """Mark the archive as damaged, unless the file was replaced or removed meanwhile."""
        try:
            self._catalogue.record_problem(name, error.message, read=read)
        except (BackupNotFound, ArchiveIncomplete):
            return
        self.counts["damaged"] += 1
        table_digests.forget_digests(self._settings.storage_dir)
        log.error("%s is damaged: %s", name, error.message)
