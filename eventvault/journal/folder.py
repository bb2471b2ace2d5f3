"""`BACKUP_DIR/journal/`: a folder a generation with its segments, and a record of which generations there are.

The folder is the truth: a segment that is deleted by hand is gone. What is remembered of a file belongs to that very
file. Safe to use from many threads and processes; only the store writes.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from eventvault.errors import JournalDamaged
from eventvault.files import make_folder, remove_durably, write_durably
from eventvault.journal import segment as segments
from eventvault.journal.segment import Segment
from eventvault.store.generation import StoreIdentity

NAME = "journal"
RECORD_NAME = "registry.json"
RECORD_FORMAT = 1
_GENERATION = re.compile(r"[0-9a-f]{16}")


class Record(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Which registry this is the journal of: its generations, with parents, forks and reasons, and the present one.

    sequence: the last one when this was written, kafka: the offsets that it stood at, as in a segment's header.
    """

    format_version: int = RECORD_FORMAT
    installation: str
    registry: StoreIdentity
    sequence: int = 0
    kafka: dict[str, dict[str, Any]] = {}


class JournalFolder:
    """The journal on disk. Every method may raise OSError."""

    def __init__(self, backup_dir: Path) -> None:
        self.root = backup_dir / NAME
        self._lock = threading.Lock()
        self._known: dict[Path, tuple[tuple[int, int, int], Segment]] = {}

    def segments(self) -> tuple[list[Segment], list[JournalDamaged]]:
        """All segments, in the order of generation and first sequence; and what is wrong with the others."""
        with self._lock:
            known, self._known = self._known, {}
            damaged = []
            for path in self._paths():
                try:
                    found = path.stat()
                    identity = (found.st_size, found.st_mtime_ns, found.st_ino)
                    seen = known.get(path)
                    read = seen[1] if seen and seen[0] == identity else segments.read_header(path)
                except FileNotFoundError:
                    continue  # it was merged or removed in between
                except JournalDamaged as error:
                    damaged.append(error)
                    continue
                self._known[path] = (identity, read)
            found_all = [each for _, each in self._known.values()]
        return sorted(found_all, key=lambda each: (each.generation, each.first, -each.last)), damaged

    def folder_of(self, generation: str) -> Path:
        """The folder of a generation, made where it is missing."""
        folder = self.root / generation
        make_folder(folder)
        return folder

    def remove(self, gone: Sequence[Segment]) -> None:
        """Remove segments, and the folders of generations that have none left."""
        for each in gone:
            each.path.unlink(missing_ok=True)
        for folder in {each.path.parent for each in gone}:
            if folder.is_dir() and not any(folder.iterdir()):
                remove_durably(folder)

    def read_record(self) -> Record | None:
        """None where there is none, or none that can be read: the segments' headers tell much of it too."""
        try:
            record = msgspec.json.decode((self.root / RECORD_NAME).read_bytes(), type=Record)
        except (FileNotFoundError, NotADirectoryError, msgspec.MsgspecError):
            return None
        return record if record.format_version == RECORD_FORMAT else None

    def write_record(self, record: Record) -> None:
        """Durably. Raises NoSpace or OSError."""
        make_folder(self.root)
        write_durably(self.root / RECORD_NAME, msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")

    def remove_temporary(self) -> None:
        """Remove what a killed process left half-written. Only the owner of the database may call this."""
        for file in self.root.glob("**/.*.tmp"):
            file.unlink(missing_ok=True)

    def _paths(self) -> list[Path]:
        try:
            folders = [path for path in self.root.iterdir() if _GENERATION.fullmatch(path.name) and path.is_dir()]
        except FileNotFoundError:
            return []
        return [path for folder in folders for path in sorted(folder.iterdir()) if segments.is_name(path.name)]
