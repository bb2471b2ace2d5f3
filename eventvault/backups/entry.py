"""What the catalogue shows of one archive in `backups/`."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Check = Literal["digests", "records"]
"""How an archive was checked: its bytes are those of its digest, or every record was read."""

Trigger = Literal["schedule", "request"]


class Pin(msgspec.Struct, frozen=True, omit_defaults=True):
    """Protects an archive from rotation. until: when that ends, in microseconds; None: it does not end."""

    reason: str | None = None
    until: int | None = None

    def is_over(self, now: int) -> bool:
        return self.until is not None and self.until <= now


class BackupEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One archive in `backups/`. Unknown values are None. size in bytes, created and verified in microseconds."""

    name: str
    path: str
    size: int
    created: int
    arrived: int = 0
    """When the file was last written, in microseconds; for a copy, usually when it was copied."""
    label: str | None = None
    events: int | None = None
    sequence: int | None = None
    generation: str | None = None
    verified: int | None = None
    own_verified: int | None = None
    """When the bytes that it shares with no other archive were read; `verified` is the oldest reading of all bytes."""
    pinned: bool = False
    pin: Pin | None = None
    """Why it is pinned and until when; None if it is not."""
    retained_by: tuple[str, ...] = ()
    """Why retention does not remove it, see `eventvault.backups.retention`. Lists have it; it is empty if it goes."""
    rehearsal: dict[str, Any] | None = None
    """The result of its newest rehearsal, as the API shows it."""
    encrypted: bool = False
    offsite: bool = False
    sha256: str | None = None
    """Of the whole file; None for an archive of format 2."""
    digest: str | None = None
    """`blake3:` and the root of an archive of format 2."""
    checked: Check | None = None
    """How it was checked at `verified`."""
    content_checked: bool = msgspec.field(default=False, name="proven")
    """Every record or every table of the bytes with this `checksum` was read, so a restore need not do so again."""
    origin: str = "found"
    """`created` by this installation, `uploaded`, or `found` in the folder."""
    origin_proven: bool = False
    """The archive is proven: the catalogue says that these bytes were made here, or the seal fits the key of this
    installation or one that an operator trusts. No other archive is used unless a request names it."""
    trigger: Trigger | None = None
    """Who asked for it; None for an archive that was not made here, or by an earlier version."""
    duration: int | None = None
    """How long it took to make, in milliseconds."""
    added_bytes: int | None = None
    """What the archive took on the disk when it was made."""
    shared_bytes: int | None = None
    """What it shared with earlier archives then."""
    unique_bytes: int | None = None
    """What its deletion frees."""
    trusted: bool = False
    """An operator's trust alone proves the archive: it comes from another installation."""
    installation: str | None = None
    """The id of the installation that made the archive, as its manifest claims."""
    seal_changed: bool = False
    """The seal in the file is not the one that the catalogue noted; everything else is as it was made."""
    problem: str | None = None
    """What is wrong with the archive; None if nothing is known to be."""
    kafka_replayable: bool | None = None
    """Whether Kafka still holds all that came after the archive; None if that is not known. Lists have it."""
    unreadable: bool = False
    """The system cannot read the archive now, as `problem` says: it may be good, and nothing is decided without it."""

    @property
    def is_ours(self) -> bool:
        """Return True for an archive that is proven to be made here, and for one that was so and is damaged now."""
        proven = self.origin_proven and not self.trusted
        return proven or (self.origin == "created" and self.problem is not None)

    @property
    def checksum(self) -> str | None:
        """What stands for the archive's bytes; None if they were not read yet."""
        return self.digest or self.sha256

    @property
    def check_to_verify(self) -> Check:
        """How it is checked on request: by records unless it was made here and its content was checked before."""
        return "digests" if self.origin_proven and self.content_checked else "records"

    @property
    def check_to_restore(self) -> Check:
        """How a restore checks it: of a proven archive the tables are read too, any other one is replayed."""
        trusted = self.content_checked or self.digest is not None
        return "digests" if self.origin_proven and trusted else "records"


class Created(msgspec.Struct, frozen=True):
    """The answer to `create_backup`. duration in milliseconds."""

    backup: BackupEntry
    duration: int
