"""The result of the chore that writes an archive."""

from __future__ import annotations

import msgspec

from eventvault.archive.reuse import UnusableArchive
from eventvault.backups.shared_runs import ClonedRun
from eventvault.files import FileIdentity


class WrittenBackup(msgspec.Struct, frozen=True):
    """An archive that was written, read back and named. The fields are the JSON of the chore `write_archive`.

    size: in bytes. digest: `blake3:` and the root in hex. verified: when its tables were found whole; None as long as
    some are `unchecked`. copied: bytes that were copied from earlier archives. clones: what it shares with them on the
    disk. unusable: the earlier archives that proved to be damaged or that the disk could not read. checked, unchecked:
    the new tables that were checked, and those that must be checked yet. compressed: the files whose members must be
    inflated and compared yet. identity: of the file that was named.
    """

    size: int
    digest: str
    verified: int | None
    copied: int
    clones: tuple[ClonedRun, ...]
    unusable: tuple[UnusableArchive, ...] = msgspec.field(name="bad")
    checked: tuple[str, ...]
    unchecked: tuple[str, ...]
    compressed: tuple[str, ...]
    identity: FileIdentity
