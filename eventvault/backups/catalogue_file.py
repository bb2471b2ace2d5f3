"""BACKUP_DIR/.catalogue.json: what is known about the archives besides what the folder shows.

Losing it costs no archive, no event and no pin (`annotations` has those too). So a damaged file is quarantined, and a
new one begins.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from eventvault import clock, data_folders, small_files
from eventvault.archive.manifest import Manifest
from eventvault.archive.seal import SealedRoot
from eventvault.backups.entry import Check, Trigger
from eventvault.files import FileIdentity
from eventvault.kafka.replayable import ArchivedOffsets


class Summary(msgspec.Struct, frozen=True):
    """The part of a manifest that lists show. created: microseconds. name: the archive's name when it was made.

    kafka: None also in a record of an earlier version.
    """

    installation: str
    name: str
    created: int
    label: str | None
    events: int
    sequence: int
    generation: str
    kafka: ArchivedOffsets | None = None

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
            kafka=ArchivedOffsets.of(manifest.kafka, manifest.kafka_topics),
        )


class ArchiveRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One archive, valid while the file has this `identity`. verified: microseconds.

    summary: None for an archive without a readable EventVault manifest. checked: how, at `verified`. content_checked:
    every record or every table of the bytes with this `checksum` was read. probe_failed: `problem` comes from a probe,
    and the next probe may succeed, because the file was still being copied or the disk answers again. unreadable: that
    probe met an error of the system, and no damage. sealed: the root and the seal of an archive that has them.
    seal_found: what the newest check found there. made: the checksum that it had when it was made here. trigger,
    duration: as in `BackupEntry`.
    """

    identity: FileIdentity
    summary: Summary | None = None
    origin: str = "found"
    pinned: bool = False
    verified: int | None = None
    sha256: str | None = None
    digest: str | None = None
    checked: Check | None = None
    content_checked: bool = msgspec.field(default=False, name="proven")
    problem: str | None = None
    probe_failed: bool = msgspec.field(default=False, name="unread")
    unreadable: bool = False
    sealed: SealedRoot | None = None
    seal_found: SealedRoot | None = None
    made: str | None = None
    trigger: Trigger | None = None
    duration: int | None = None

    @property
    def seal_changed(self) -> bool:
        return self.seal_found not in (None, self.sealed)

    @property
    def unchanged_seal(self) -> SealedRoot | None:
        return None if self.seal_changed else self.sealed

    @property
    def checksum(self) -> str | None:
        return self.digest or self.sha256


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: Literal[1]
    archives: dict[str, ArchiveRecord]


class _EarlierDocument(_Document, frozen=True, forbid_unknown_fields=True):
    """The catalogue of EventVault 0.1.0. It has no checksum, and mixes what was made here with what only claims so."""


def load(folder: Path) -> dict[str, ArchiveRecord]:
    """Return the records by the archives' names; none if there is no catalogue, or a damaged one. Raises OSError."""
    path = folder / data_folders.CATALOGUE
    document = small_files.read_or_quarantine(path, _Document, earlier=_EarlierDocument)
    if document is None:
        return {}
    if isinstance(document, _EarlierDocument):
        return {name: _complete_earlier(record) for name, record in document.archives.items()}
    return dict(document.archives)


def _complete_earlier(record: ArchiveRecord) -> ArchiveRecord:
    """Add what 0.1.0 did not note. It drops the digest of an archive of format 2, so that archive is read again."""
    if record.summary is not None and record.sha256 is None:
        return msgspec.structs.replace(record, probe_failed=True)
    return msgspec.structs.replace(record, made=record.sha256) if record.origin == "created" else record


def save(folder: Path, records: dict[str, ArchiveRecord]) -> None:
    """Write all records, durably. Raises NoSpace or OSError; then the old file stays."""
    small_files.write(folder / data_folders.CATALOGUE, _Document(1, dict(sorted(records.items()))))
