"""Manages `BACKUP_DIR/journal/`: one folder per generation with its segments, and a record of the generations.

The folder decides which segments exist. A header in memory is valid for one `FileIdentity`. Safe to use from many
threads and processes; only the store writes.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from eventvault import data_folders, small_files
from eventvault.database.generation import Generation, StoreIdentity, is_id
from eventvault.errors import JournalDamaged, JournalUnreadable
from eventvault.files import FileIdentity, make_folder, matching, remove_durably, rename_durably
from eventvault.journal import segment as segments
from eventvault.journal.segment import Segment
from eventvault.progress import Turn

log = logging.getLogger("BackupManager")

RECORD_FORMAT = 1
QUARANTINE_MIN_AGE_SECONDS = 60.0
"""A file that was modified within this time may still be being copied, so it is not quarantined."""
_MAX_SCANS = 5
"""How often the folder is scanned at most, if files vanish meanwhile."""


class JournalRecord(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """The registry that this journal belongs to: its generations, with parents, forks and reasons, and the current one.

    sequence: the last one when this was written. kafka: the Kafka offsets at that sequence, as in a segment's header.
    published: as in a segment's header. waiting_since: recorded time of the first event that waits to be published
    although a restore took it out of the registry. Earlier versions treat a record with these two fields as damaged.
    """

    format_version: int = RECORD_FORMAT
    installation: str
    registry: StoreIdentity
    sequence: int = 0
    kafka: dict[str, dict[str, Any]] = {}
    published: int | msgspec.UnsetType = msgspec.UNSET
    waiting_since: int | msgspec.UnsetType = msgspec.UNSET


class QuarantinedSegment(NamedTuple):
    """A segment that is quarantined or cannot be read, and the range of events in its name."""

    path: Path
    generation: str
    first: int
    last: int


def segment_of(error: JournalDamaged) -> QuarantinedSegment:
    """Return the segment that an error is about."""
    return _parse_quarantined(Path(error.details["segment"]))


def _parse_quarantined(path: Path) -> QuarantinedSegment:
    return QuarantinedSegment(
        path, path.parent.name, *segments.parse_name(path.name.removesuffix(data_folders.DAMAGED_SUFFIX))
    )


class JournalFolder:
    """The journal on disk. Every method may raise OSError."""

    def __init__(self, backup_dir: Path) -> None:
        self.root = backup_dir / data_folders.JOURNAL
        self._turn = Turn("list of segments")
        self._headers: dict[Path, tuple[FileIdentity, Segment]] = {}
        self._suspects: set[Path] = set()
        self._unreadable: dict[Path, tuple[FileIdentity, JournalDamaged]] = {}

    def segments(self) -> tuple[list[Segment], list[JournalDamaged]]:
        """Return the segments by generation and first sequence, and the errors of those that cannot be used."""
        with self._turn.held():
            for _ in range(_MAX_SCANS):
                damaged, changed = self._scan()
                if not changed:
                    break
            usable = [segment for _, segment in self._headers.values()]
        return sorted(usable, key=lambda segment: (segment.generation, segment.first, -segment.last)), damaged

    def segments_of(self, installation: str) -> list[Segment]:
        """Return the segments of one installation: others may have different events in the same generation."""
        return [segment for segment in self.segments()[0] if segment.header.installation == installation]

    def generations(self) -> list[str]:
        """Return the ids of the generations that have a folder."""
        with contextlib.suppress(FileNotFoundError):
            return [path.name for path in self.root.iterdir() if is_id(path.name) and path.is_dir()]
        return []

    def last_named(self, generation: str) -> int:
        """Return the last sequence in the names of a generation's segments, quarantined ones included; 0: no segment.

        Quick, because no file is read.
        """
        names = (path.name.removesuffix(data_folders.DAMAGED_SUFFIX) for path in self._files_of(generation))
        return max((segments.parse_name(name)[1] for name in names if segments.is_name(name)), default=0)

    def named(self, generation: str) -> list[tuple[int, int, Path]]:
        """Return (first, last, path) of a generation's segments by their names; no file is read."""
        return [
            (*segments.parse_name(path.name), path)
            for path in self._files_of(generation)
            if segments.is_name(path.name)
        ]

    def read_generation(self, generation: str) -> Generation | None:
        """Return a generation as one of its segments describes it; None if no segment can be read."""
        for path in self._files_of(generation):
            if segments.is_name(path.name):
                with contextlib.suppress(JournalDamaged, FileNotFoundError):
                    return segments.read_header(path).header.generation
        return None

    def _files_of(self, generation: str) -> list[Path]:
        with contextlib.suppress(FileNotFoundError):
            return sorted((self.root / generation).iterdir())
        return []

    def _scan(self) -> tuple[list[JournalDamaged], bool]:
        """Read the headers of new files. Returns the errors, and whether files vanished meanwhile.

        A file that vanished may be merged into one that did not exist yet when the names were listed.
        """
        before, self._headers = self._headers, {}
        damaged: list[JournalDamaged] = []
        changed = False
        for path in [path for path in self._paths() if segments.is_name(path.name)]:
            try:
                identity = FileIdentity.of(path.stat())
                unreadable = self._unreadable.get(path)
                if unreadable is not None and unreadable[0] == identity:
                    damaged.append(unreadable[1])
                    continue
                cached = before.get(path)
                segment = cached[1] if cached and cached[0] == identity else segments.read_header(path)
            except FileNotFoundError:
                changed = True
                continue
            except JournalDamaged as error:
                damaged.append(error)
                continue
            except OSError as error:  # the other segments can be used without it
                damaged.append(segments.unreadable_error(path, error))
                continue
            self._headers[path] = (identity, segment)
        return damaged, changed

    def quarantine(self, error: JournalDamaged) -> bool:
        """Rename the damaged segment that the error names, so that the journal misses its events.

        Returns False if it is gone, was modified just now, or cannot be read. A segment that cannot be read may be
        good: it stays, and counts as damaged until `retry_unreadable` can read it.
        """
        path = Path(error.details["segment"])
        if isinstance(error, JournalUnreadable):
            with self._turn.held(), contextlib.suppress(OSError):
                self._unreadable[path] = (FileIdentity.of(path.stat()), error)
            return False
        try:
            if 0 <= time.time() - path.stat().st_mtime < QUARANTINE_MIN_AGE_SECONDS:
                return False
            rename_durably(path, path.with_name(path.name + data_folders.DAMAGED_SUFFIX))
        except FileNotFoundError:
            return False
        log.error("%s: it was quarantined as %s%s; its events are written again if the database has them",
                  error, path.name, data_folders.DAMAGED_SUFFIX)  # fmt: skip
        return True

    def quarantined(self) -> list[QuarantinedSegment]:
        """Return the quarantined segments that still exist."""
        names = ((path, path.name.removesuffix(data_folders.DAMAGED_SUFFIX)) for path in self._paths())
        return [_parse_quarantined(path) for path, name in names if name != path.name and segments.is_name(name)]

    def retry_unreadable(self) -> None:
        """Try to read the unreadable segments again, as the disk may answer now."""
        for path in list(self._unreadable):
            with contextlib.suppress(JournalDamaged, OSError):
                segments.read_lines(segments.read_header(path))
                self._unreadable.pop(path, None)

    def mark_suspect(self, path: Path) -> None:
        """Let the scrub read a segment that a restore found damaged; only the scrub may quarantine it."""
        self._suspects.add(path)

    def is_suspect(self, path: Path) -> bool:
        return path in self._suspects

    def clear_suspect(self, path: Path) -> None:
        """Note that the segment is good."""
        self._suspects.discard(path)

    def generation_folder(self, generation: str) -> Path:
        """Return the folder of a generation, created if it is missing."""
        folder = self.root / generation
        make_folder(folder)
        return folder

    def remove(self, unneeded: Sequence[Segment | QuarantinedSegment]) -> None:
        """Remove segments, quarantined ones included, and the folders of generations that become empty."""
        for segment in unneeded:
            segment.path.unlink(missing_ok=True)
        for folder in {segment.path.parent for segment in unneeded}:
            if folder.is_dir() and not any(folder.iterdir()):
                remove_durably(folder)

    def read_record(self) -> JournalRecord | None:
        """Return the record; None if it is missing or damaged: the segments' headers have most of it, too."""
        try:
            record = small_files.read_or_quarantine(
                self.root / data_folders.JOURNAL_RECORD, JournalRecord, earlier=JournalRecord
            )
        except NotADirectoryError:
            return None
        return record if record is None or record.format_version == RECORD_FORMAT else None

    def write_record(self, record: JournalRecord) -> None:
        """Write the record durably. Raises NoSpace or OSError."""
        make_folder(self.root)
        small_files.write(self.root / data_folders.JOURNAL_RECORD, record)

    def remove_temporary(self) -> None:
        """Remove the temporary files of killed processes. Only the owner of the database may call this."""
        for folder in (self.root, *matching(self.root)):
            for file in matching(folder, f".*{data_folders.TEMPORARY_SUFFIX}"):
                file.unlink(missing_ok=True)

    def _paths(self) -> Iterator[Path]:
        """Yield all files of all generations, segments or not."""
        try:
            folders = [path for path in self.root.iterdir() if is_id(path.name) and path.is_dir()]
        except FileNotFoundError:
            return
        for folder in folders:
            with contextlib.suppress(FileNotFoundError):  # it was removed in between
                yield from sorted(folder.iterdir())
