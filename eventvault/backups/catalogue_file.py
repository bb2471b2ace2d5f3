"""BACKUP_DIR/.catalogue.json: what is known of archives that the folder itself does not show.

Losing it costs no archive and no event, only that knowledge; so what cannot be read is set aside and begun anew.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from eventvault import clock, data_folders
from eventvault.archive.manifest import Manifest
from eventvault.files import FileIdentity, write_durably

FORMAT = 1


class Summary(msgspec.Struct, frozen=True):
    """What an archive's manifest says of it, as far as lists show it. created: microseconds. name: when it was made."""

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
    """One archive, as long as it is the file that `identity` tells. verified: microseconds.

    proven: every record was read from the bytes that `sha256` is of.
    summary: None for one without a readable manifest of ours. unread: `problem` comes from looking at it, and the next
    look may find it whole: it was still being copied, or the disk answers again.
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
    """The records by the archives' names; none where there is no catalogue, or one that cannot be read.

    Such a one is kept beside it for a look. Raises OSError where the file cannot be opened.
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
    """Write all records, durably. Raises NoSpace or OSError; then what was there stays."""
    document = _Document(FORMAT, dict(sorted(records.items())))
    write_durably(folder / data_folders.CATALOGUE, msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n")
