"""BACKUP_DIR/.catalogue.json: what is known about the archives and the folder itself does not show.

Losing it costs no archive and no event, only pins. So a damaged file is quarantined, and a new one begins.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from eventvault import clock, data_folders, small_files
from eventvault.archive.manifest import Manifest
from eventvault.files import FileIdentity


class Summary(msgspec.Struct, frozen=True):
    """The part of a manifest that lists show. created: microseconds. name: the archive's name when it was made."""

    installation: str
    name: str
    created: int
    label: str | None
    events: int
    sequence: int
    generation: str

    @classmethod
    def of(cls, manifest: Manifest) -> Summary:
        return cls(
            installation=manifest.installation,
            name=manifest.name,
            created=clock.parse(manifest.created),
            label=manifest.label,
            events=manifest.events,
            sequence=manifest.last_sequence,
            generation=manifest.generation.id,
        )


class ArchiveRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One archive, valid while the file has this `identity`. verified: microseconds.

    summary: None for an archive without a readable EventVault manifest. records_verified: every record of the bytes
    with this `checksum` was read. probe_failed: `problem` comes from a probe, and the next probe may succeed, because
    the file was still being copied or the disk answers again.
    """

    identity: FileIdentity
    summary: Summary | None = None
    origin: str = "found"
    pinned: bool = False
    verified: int | None = None
    sha256: str | None = None
    digest: str | None = None
    records_verified: bool = msgspec.field(default=False, name="proven")
    problem: str | None = None
    probe_failed: bool = msgspec.field(default=False, name="unread")


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: Literal[1]
    archives: dict[str, ArchiveRecord]


def load(folder: Path) -> dict[str, ArchiveRecord]:
    """Return the records by the archives' names; none if there is no catalogue, or a damaged one. Raises OSError."""
    path = folder / data_folders.CATALOGUE
    document = small_files.read_or_quarantine(path, _Document, without_checksum=True)
    return {} if document is None else dict(document.archives)


def save(folder: Path, records: dict[str, ArchiveRecord]) -> None:
    """Write all records, durably. Raises NoSpace or OSError; then the old file stays."""
    small_files.write(folder / data_folders.CATALOGUE, _Document(1, dict(sorted(records.items()))))
