"""Checks a database of ours that was unpacked from an archive: completely, or only what was not checked before."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import msgspec

from eventvault.archive.proof import Proof
from eventvault.archive.verified import VerifiedArchive
from eventvault.backups.entry import BackupEntry, Check
from eventvault.backups.table_check import check_all_tables
from eventvault.database.opening import open_checked
from eventvault.database.registry import EventRegistry
from eventvault.restore.records import as_archive_error, check_records, check_together


class ArchiveFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about an archive that save reading parts of it; by default there are none.

    verified: its checksum, if the content of those bytes was read before. proof: what proves that it was made here.
    """

    verified: str | None = None
    proof: Proof | None = None

    def proves(self, unpacked: VerifiedArchive) -> bool:
        """Return True if the unpacked bytes are proven; then their database may be opened as one of ours."""
        return self.proof is not None and unpacked.is_proven(self.proof)

    @classmethod
    def of(cls, entry: BackupEntry | None, proof: Proof) -> ArchiveFacts:
        return cls(verified=entry.checksum if entry is not None and entry.content_checked else None, proof=proof)


def check_as_needed(
    path: Path,
    database: Path,
    unpacked: VerifiedArchive,
    facts: ArchiveFacts,
    *,
    expected: int | None = None,
    upto: int | None = None,
) -> Check:
    """Check the database unpacked from the proven archive `path`, whose digests were right. Returns which check it did.

    Reads nothing again if the content was read before. Else it reads every block of the tables; the events were checked
    when they were stored. An archive of format 1 was made without a check of its tables or their digests, so its
    records are read too. expected, upto: as for `check_together`. Raises ArchiveDamaged, ArchiveTooNew.
    """
    if unpacked.checksum == facts.verified:
        return "digests"
    with as_archive_error(path):
        check_all_tables(database)
    if unpacked.digest is not None:
        return "digests"
    check_together(path, database, expected, upto=upto)
    return "records"


def check_database(path: Path, database: Path, expected: int | None, *, gently: bool = False) -> None:
    """Read every block of the tables, and every record, of a database that was unpacked from `path`.

    expected: how many events there must be, None if that is not known. gently: with one core. Raises ArchiveDamaged,
    ArchiveTooNew.
    """
    with as_archive_error(path):
        # The records do not show damage in a table's filter, which would hide events from a lookup by their id.
        check_all_tables(database, 1 if gently else None)
        if gently:
            with closing(open_checked(database)) as db:
                check_records(EventRegistry(db, database), path.name, expected)
            return
    check_together(path, database, expected)
