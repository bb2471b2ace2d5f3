"""What the catalogue shows of one archive in `backups/`."""

from __future__ import annotations

import msgspec


class BackupEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One archive in `backups/`. Unknown values are None. size in bytes, created and verified in microseconds."""

    name: str
    path: str
    size: int
    created: int
    label: str | None = None
    events: int | None = None
    sequence: int | None = None
    generation: str | None = None
    verified: int | None = None
    pinned: bool = False
    encrypted: bool = False
    offsite: bool = False
    sha256: str | None = None
    records_verified: bool = msgspec.field(default=False, name="proven")
    """Every record of the bytes with this `sha256` was read, so a restore of them need not read all again."""
    origin: str = "found"
    """`created` by this installation, `uploaded`, or `found` in the folder."""
    problem: str | None = None
    """What is wrong with the archive; None if nothing is known to be."""


class Created(msgspec.Struct, frozen=True):
    """The answer to `create_backup`. duration in milliseconds."""

    backup: BackupEntry
    duration: int
