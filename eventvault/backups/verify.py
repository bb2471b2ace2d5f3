"""Verifying an archive, on request or by the scrub, and recording the result."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import msgspec

from eventvault import clock
from eventvault.archive.seal import SealedRoot
from eventvault.backups import table_digests
from eventvault.backups.catalogue import Catalogue
from eventvault.backups.entry import BackupEntry
from eventvault.backups.scrub import BYTES_PER_SECOND
from eventvault.backups.shared_damage import mark_sharing
from eventvault.backups.shared_runs import SharedRun
from eventvault.chores import Chores
from eventvault.errors import ArchiveError, ArchiveIncomplete, ArchiveTooNew, ArchiveUnreadable, BackupNotFound, NoSpace
from eventvault.files import FileIdentity
from eventvault.operations.operation import current
from eventvault.progress import Turn
from eventvault.settings import Settings

log = logging.getLogger("BackupManager")


class Verifier:
    """Checks archives and enters the results in the catalogue.

    Requests are dealt with one at a time, and none waits for the scrub, which takes 16 s for 1 GB.
    """

    def __init__(self, settings: Settings, catalogue: Catalogue, chores: Chores) -> None:
        self.counts = {"verified": 0, "damaged": 0}
        self._settings = settings
        self._catalogue = catalogue
        self._chores = chores
        self._request = Turn("requested check of an archive")

    def verify(self, name: str, *, records: bool = False) -> BackupEntry:
        """Check an archive as far as its origin requires; records: read every record in any case.

        Raises BackupNotFound, NoSpace, or the ArchiveError that describes the damage. Then the archive is marked as
        damaged, and the next backup copies nothing from it and reads every table.
        """
        current().queue()
        with self._request.held(check=current().check_cancelled):
            by_records = records or self._catalogue.entry(name).check_to_verify == "records"
            return self._check(name, "records" if by_records else "digests", rate=0)

    def scrub(self, name: str) -> BackupEntry:
        """Check the bytes of an archive slowly, and its content if that was never checked.

        Shared blocks that were read in another archive since are not read again. The records are also skipped if they
        do not fit on the disk: the archive's checksums need no space and find rot.
        """
        if self._catalogue.entry(name).content_checked:
            return self._check(name, "digests", rate=BYTES_PER_SECOND, share=True)
        try:
            return self._check(name, "records", rate=BYTES_PER_SECOND)
        except NoSpace as error:
            log.warning("the records of %s are not checked: %s", name, error)
            return self._check(name, "members", rate=BYTES_PER_SECOND)

    def _check(self, name: str, depth: str, *, rate: int, share: bool = False) -> BackupEntry:
        """Check an archive and record the result. share: skip shared blocks that were read in another archive since."""
        read, entry = self._catalogue.identity(name), self._catalogue.entry(name)
        runs = self._catalogue.shared_runs
        skipped = runs.read_since(name, entry.own_verified) if share and entry.own_verified else {}
        result = self._read(entry, read, depth=depth, rate=rate, skipped=skipped)
        current().decided()
        unchanged = (result["digest"] or result["sha256"]) == entry.checksum
        if depth == "digests" and not unchanged:  # digests alone do not tell whether other bytes are good
            return self._check(name, "records", rate=rate)
        self.counts["verified"] += 1
        log.info("%s was verified by its %s", name, result["checked"])
        instant = clock.now()
        self._catalogue.record_verified(
            name,
            verified=instant,
            digest=result["digest"],
            sha256=result["sha256"] or (entry.sha256 if unchanged else None),
            sealed=msgspec.convert(result["sealed"], SealedRoot | None),
            checked=result["checked"],
            content_checked=result["records"] or (entry.content_checked and unchanged),
            read=read,
        )
        runs.record_read(name, read, instant, skipped)
        return self._catalogue.entry(name)

    def _read(
        self, entry: BackupEntry, read: FileIdentity, *, depth: str, rate: int, skipped: Mapping[int, SharedRun]
    ) -> dict[str, Any]:
        arguments = {
            "scratch": str(self._settings.storage_dir),
            "skipped": [(offset, run.size, run.tail) for offset, run in skipped.items()],
            "proof": msgspec.to_builtins(self._catalogue.proof()),
        }
        try:
            return self._chores.run("check_archive", archive=entry.path, depth=depth, rate=rate, **arguments)
        except ArchiveTooNew:
            raise
        except ArchiveUnreadable:
            self._catalogue.shared_runs.record_failure(entry.name, read)
            raise
        except ArchiveError as error:
            self.mark_damaged(entry.name, read, error)
            raise

    def mark_damaged(self, name: str, read: FileIdentity, error: ArchiveError) -> None:
        """Mark the archive as damaged, unless the file was replaced or removed meanwhile."""
        try:
            self._catalogue.record_problem(name, error.message, read=read)
        except (BackupNotFound, ArchiveIncomplete):
            return
        self.counts["damaged"] += 1
        table_digests.forget_digests(self._settings.storage_dir)
        log.error("%s is damaged: %s", name, error.message)
        self.counts["damaged"] += len(mark_sharing(self._catalogue, self._chores, name))
