"""BACKUP_DIR/.annotations.json: what people and rehearsals noted about archives. The archives do not hold it.

The catalogue notes too which archives are pinned, so the loss of either file loses no pin; the reason and the end of a
pin are here alone. An annotation belongs to a name. Only the store's process writes the file, and only while it holds
the turn of the catalogue.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import msgspec

from eventvault import data_folders, small_files
from eventvault.backups.entry import Pin
from eventvault.files import FileIdentity, is_there


class Annotation(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was noted about one archive. pin: may be over. rehearsal: the result of its newest rehearsal."""

    pin: Pin | None = None
    rehearsal: dict[str, Any] | None = None


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: Literal[1]
    archives: dict[str, Annotation]


_NOTHING = Annotation()


class Annotations:
    """The annotations in `folder`. Reading is safe for many threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / data_folders.ANNOTATIONS
        self._archives: Mapping[str, Annotation] = MappingProxyType({})
        self.loaded: FileIdentity | None = None
        """The identity of the file that matches what is in memory; None if there is none."""
        self._lock = threading.Lock()

    def of(self, name: str) -> Annotation:
        """Return what was noted about an archive when `refresh` was called last."""
        return self._archives.get(name, _NOTHING)

    def pins(self) -> dict[str, Pin]:
        """Return the pins by name, also those that are over."""
        annotated = self._archives.items()
        return {name: annotation.pin for name, annotation in annotated if annotation.pin is not None}

    def refresh(self) -> None:
        """Read the file again if it was changed. A damaged one is quarantined. Raises OSError."""
        before = self.loaded
        while FileIdentity.at(self._path) != before:
            document = small_files.read_or_quarantine(self._path, _Document)
            identity = FileIdentity.at(self._path)
            with self._lock:
                if self.loaded == before:  # else it was written, or read by another thread, meanwhile
                    self._archives, self.loaded = document.archives if document else {}, identity
                before = self.loaded

    def change(self, name: str, **change: object) -> None:
        """Note something about an archive, durably. Raises NoSpace or OSError; then nothing was changed."""
        self.refresh()
        self._save({**self._archives, name: msgspec.structs.replace(self.of(name), **change)})

    def pin_all(self, names: Iterable[str]) -> None:
        """Pin archives without a reason. Raises as `change`."""
        self.refresh()
        self.put_back({name: msgspec.structs.replace(self.of(name), pin=Pin()) for name in names})

    def put_back(self, annotations: Mapping[str, Annotation]) -> None:
        """Note again what `forget` removed. Raises as `change`."""
        self.refresh()
        self._save({**self._archives, **annotations})

    def forget(self, names: Iterable[str]) -> None:
        """Remove what was noted about archives. Raises as `change`."""
        self.refresh()
        if noted := self._archives.keys() & names:
            self._save({name: annotation for name, annotation in self._archives.items() if name not in noted})

    def _save(self, archives: Mapping[str, Annotation]) -> None:
        needed = {
            name: annotation for name, annotation in sorted(archives.items()) if self._is_needed(name, annotation)
        }
        small_files.write(self._path, _Document(1, needed))
        with self._lock:
            self._archives, self.loaded = needed, FileIdentity.at(self._path)

    def _is_needed(self, name: str, annotation: Annotation) -> bool:
        """Return True for any note about an archive that exists, and for a pin: its archive may be moved back."""
        is_noted = annotation != _NOTHING and is_there(self._folder / name)
        return annotation.pin is not None or is_noted
