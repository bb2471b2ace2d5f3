"""`BACKUP_DIR/journal/`: a folder a generation with its segments, and a record of which generations there are.

The folder is the truth: a segment that is deleted by hand is gone. What is remembered of a file belongs to that very
file. Safe to use from many threads and processes; only the store writes.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from eventvault import data_folders
from eventvault.database.generation import StoreIdentity, is_id
from eventvault.errors import EventVaultError, JournalDamaged
from eventvault.files import FileIdentity, make_folder, remove_durably, rename_durably, write_durably
from eventvault.journal import segment as segments
from eventvault.journal.segment import Segment

log = logging.getLogger("BackupManager")

RECORD_FORMAT = 1
QUARANTINE_MIN_AGE_SECONDS = 60.0
"""What was written to within this time may be on its way here still, and is not called damaged."""
_MAX_SCANS = 5
"""So often the folder is looked at again because files went while it was."""


class JournalRecord(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Which registry this is the journal of: its generations, with parents, forks and reasons, and the present one.

    sequence: the last one when this was written, kafka: the offsets that it stood at, as in a segment's header.
    """

    format_version: int = RECORD_FORMAT
    installation: str
    registry: StoreIdentity
    sequence: int = 0
    kafka: dict[str, dict[str, Any]] = {}


class QuarantinedSegment(NamedTuple):
    """A segment that was set aside as damaged, or cannot be read, and what its name says that it holds."""

    path: Path
    generation: str
    first: int
    last: int


def segment_of(error: JournalDamaged) -> QuarantinedSegment:
    """The segment that an error is about."""
    return _parse_quarantined(Path(error.details["segment"]))


def is_unreadable(error: EventVaultError) -> bool:
    """Whether the disk did not give a segment, which may be good: not that it is damaged."""
    return bool(error.details.get("unreadable"))


def _parse_quarantined(path: Path) -> QuarantinedSegment:
    return QuarantinedSegment(
        path, path.parent.name, *segments.parse_name(path.name.removesuffix(data_folders.DAMAGED_SUFFIX))
    )


class JournalFolder:
    """The journal on disk. Every method may raise OSError."""

    def __init__(self, backup_dir: Path) -> None:
        self.root = backup_dir / data_folders.JOURNAL
        self._lock = threading.Lock()
        self._known: dict[Path, tuple[FileIdentity, Segment]] = {}
        self._suspects: set[Path] = set()
        self._unreadable: dict[Path, tuple[FileIdentity, JournalDamaged]] = {}

    def segments(self) -> tuple[list[Segment], list[JournalDamaged]]:
        """All segments, in the order of generation and first sequence; and what is wrong with the others."""
        with self._lock:
            for _ in range(_MAX_SCANS):
                damaged, changed = self._scan()
                if not changed:
                    break
            found = [each for _, each in self._known.values()]
        return sorted(found, key=lambda each: (each.generation, each.first, -each.last)), damaged

    def segments_of(self, installation: str) -> list[Segment]:
        """Those that an installation wrote; others may have gone on from the same generation with other events."""
        return [each for each in self.segments()[0] if each.header.installation == installation]

    def _scan(self) -> tuple[list[JournalDamaged], bool]:
        """Read what is new. Returns what is damaged, and whether files went meanwhile.

        What went may have become part of one that was not there yet when the names were listed.
        """
        known, self._known = self._known, {}
        damaged: list[JournalDamaged] = []
        changed = False
        for path in [path for path in self._paths() if segments.is_name(path.name)]:
            try:
                identity = FileIdentity.of(path.stat())
                shut = self._unreadable.get(path)
                if shut is not None and shut[0] == identity:
                    damaged.append(shut[1])
                    continue
                seen = known.get(path)
                read = seen[1] if seen and seen[0] == identity else segments.read_header(path)
            except FileNotFoundError:
                changed = True
                continue
            except JournalDamaged as error:
                damaged.append(error)
                continue
            except OSError as error:  # the others are of use without it
                damaged.append(segments.unreadable(path, error))
                continue
            self._known[path] = (identity, read)
        return damaged, changed

    def quarantine(self, error: JournalDamaged) -> bool:
        """Take the damaged segment that the error names out of the journal: what it held is missing then.

        It is kept under a name that is no segment's, for a look. False where it is gone, or was written to just now.
        One that cannot be read may be good: it stays, and counts as damaged until `retry_unreadable` can read it.
        """
        path = Path(error.details["segment"])
        if is_unreadable(error):
            with self._lock, contextlib.suppress(OSError):
                self._unreadable[path] = (FileIdentity.of(path.stat()), error)
            return False
        try:
            if 0 <= time.time() - path.stat().st_mtime < QUARANTINE_MIN_AGE_SECONDS:
                return False
            rename_durably(path, path.with_name(path.name + data_folders.DAMAGED_SUFFIX))
        except FileNotFoundError:
            return False
        log.error("%s: it was set aside as %s%s; what the database has of it is written again",
                  error, path.name, data_folders.DAMAGED_SUFFIX)  # fmt: skip
        return True

    def quarantined(self) -> list[QuarantinedSegment]:
        """The damaged segments that were set aside and are there still."""
        names = ((path, path.name.removesuffix(data_folders.DAMAGED_SUFFIX)) for path in self._paths())
        return [_parse_quarantined(path) for path, name in names if name != path.name and segments.is_name(name)]

    def retry_unreadable(self) -> None:
        """Read what could not be read, for the disk may answer again."""
        for path in list(self._unreadable):
            with contextlib.suppress(JournalDamaged, OSError):
                segments.read_lines(segments.read_header(path))
                self._unreadable.pop(path, None)

    def mark_suspect(self, path: Path) -> None:
        """Have a segment that somebody met damaged read again, by who may set it aside."""
        self._suspects.add(path)

    def is_suspect(self, path: Path) -> bool:
        return path in self._suspects

    def clear(self, path: Path) -> None:
        """It is good."""
        self._suspects.discard(path)

    def generation_folder(self, generation: str) -> Path:
        """The folder of a generation, made where it is missing."""
        folder = self.root / generation
        make_folder(folder)
        return folder

    def remove(self, gone: Sequence[Segment | QuarantinedSegment]) -> None:
        """Remove segments, or what was set aside, and the folders of generations that have none left."""
        for each in gone:
            each.path.unlink(missing_ok=True)
        for folder in {each.path.parent for each in gone}:
            if folder.is_dir() and not any(folder.iterdir()):
                remove_durably(folder)

    def read_record(self) -> JournalRecord | None:
        """None where there is none, or none that can be read: the segments' headers tell much of it too."""
        try:
            record = msgspec.json.decode((self.root / data_folders.JOURNAL_RECORD).read_bytes(), type=JournalRecord)
        except (FileNotFoundError, NotADirectoryError, msgspec.MsgspecError):
            return None
        return record if record.format_version == RECORD_FORMAT else None

    def write_record(self, record: JournalRecord) -> None:
        """Durably. Raises NoSpace or OSError."""
        make_folder(self.root)
        write_durably(
            self.root / data_folders.JOURNAL_RECORD, msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n"
        )

    def remove_temporary(self) -> None:
        """Remove what a killed process left half-written. Only the owner of the database may call this."""
        for file in self.root.glob("**/.*.tmp"):
            file.unlink(missing_ok=True)

    def _paths(self) -> Iterator[Path]:
        """All files of all generations, segments or not."""
        try:
            folders = [path for path in self.root.iterdir() if is_id(path.name) and path.is_dir()]
        except FileNotFoundError:
            return
        for folder in folders:
            with contextlib.suppress(FileNotFoundError):  # it was emptied and removed in between
                yield from sorted(folder.iterdir())
