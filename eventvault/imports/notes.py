"""Notes how far an import came, in `STORAGE_DIR/imports/<digest of the name>.json`, so that the import continues there.

A note has the generation and the last sequence of the store. If a restore has changed either, the events may be gone
again, so the import begins again; events that are still stored are not stored twice.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import msgspec

from eventvault import data_folders, file_locks, small_files
from eventvault.errors import ImportRunning
from eventvault.files import make_folder, matching

KEEP_SECONDS = 90 * 86400
"""A note that no import has changed for this long is removed."""
_LOCK_SECONDS = 2.0


class ImportNote(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far an import came.

    generation, sequence: of the store when this was written. position: the number of the last record that is done;
    digest: the SHA-256 of the text up to there. form: the digest of how the file is read. new, already, rejected: the
    numbers of these records by outcome. rejects: the file of rejects, of which `rejects_size` bytes count, with
    `rejects_digest` as their SHA-256. ended: the whole file was imported.
    """

    format: Literal[1]
    name: str
    generation: str
    sequence: int
    position: int
    digest: str
    form: str
    new: int
    already: int
    rejected: int
    rejects: str | None
    rejects_size: int
    rejects_digest: str
    ended: bool


class Notes:
    """The notes in one folder, a small file for each import."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, name: str) -> ImportNote | None:
        """Return the note of an import; None if it is missing or damaged. Raises OSError."""
        note = small_files.read_or_quarantine(self._path(name), ImportNote)
        return note if note is not None and note.name == name else None

    def write(self, note: ImportNote) -> None:
        """Write a note durably. Raises NoSpace or OSError."""
        make_folder(self._folder)
        small_files.write(self._path(note.name), note, mode=0o600)

    @contextmanager
    def running(self, name: str) -> Iterator[None]:
        """Hold the lock of the import of that name. Raises ImportRunning if another process runs it."""
        make_folder(self._folder)
        self._remove_old()
        handle = file_locks.open_lock_file(self._folder / data_folders.IMPORTS_LOCK)
        try:
            if not file_locks.lock_range(handle, _LOCK_SECONDS, int(_key(name)[:15], 16)):
                raise ImportRunning(
                    f"another process does the import {name}, and nothing was imported",
                    hint="wait until it has ended, or give this one another --name",
                )
            yield
        finally:
            os.close(handle)

    def _path(self, name: str) -> Path:
        return self._folder / f"{_key(name)}.json"

    def _remove_old(self) -> None:
        for path in matching(self._folder, "*.json"):
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > KEEP_SECONDS:
                    path.unlink()


def _key(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:32]
