"""BACKUP_DIR/.catalogue.json: what is known about the archives and the folder itself does not show.

Losing it costs no archive and no event. So a file that cannot be read is renamed, and a new one begins.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from eventvault import clock, data_folders
from eventvault.archive.manifest import Manifest
from eventvault.files import FileIdentity, write_durably

FORMAT = 1


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
    with this `sha256` was read. probe_failed: `problem` comes from a probe, and the next probe may succeed, because
    the file was still being copied or the disk answers again.
    """

    identity: FileIdentity
    summary: Summary | None = None
    origin: str = "found"
    pinned: bool = False
    verified: int | None = None
    sha256: str | None = None
    records_verified: bool = msgspec.field(default=False, name="proven")
    problem: str | None = None
    probe_failed: bool = msgspec.field(default=False, name="unread")


class _Document(msgspec.Struct, frozen=True):
    format: int
    archives: dict[str, ArchiveRecord]


def load(folder: Path) -> dict[str, ArchiveRecord]:
    """Return the records by the archives' names; none if there is no catalogue or its content is not valid.

    A catalogue that is not valid is renamed, for inspection. Raises OSError if the file cannot be opened.
    """
    path = folder / data_folders.CATALOGUE
    try:
        document = msgspec.json.decode(path.read_bytes(), type=_Document)
    except FileNotFoundError:
        return {}
    except msgspec.DecodeError:
        document = None
    if document is None or document.format != FORMAT:
        path.replace(folder / data_folders.DAMAGED_CATALOGUE)
        return {}
    return dict(document.archives)


def save(folder: Path, records: dict[str, ArchiveRecord]) -> None:
    """Write all records, durably. Raises NoSpace or OSError; then the old file stays."""
    document = _Document(FORMAT, dict(sorted(records.items())))
    write_durably(folder / data_folders.CATALOGUE, msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n")
