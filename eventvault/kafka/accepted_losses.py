"""Losses of stopped partitions that an operator accepted, in a file of STORAGE_DIR until they have taken effect."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from eventvault import data_folders, small_files
from eventvault.files import remove_durably
from eventvault.progress import Turn


class Accepted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A partition whose loss was accepted. cause: `cause_of` its problem at that time."""

    topic: str
    partition: int
    cause: str


class _StoredLosses(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    losses: tuple[Accepted, ...]
    format: Literal[1] = 1


class AcceptedLosses:
    """Safe for many threads. A damaged file is quarantined, and its losses are forgotten: the partitions stay stopped.

    Methods raise NoSpace or OSError.
    """

    def __init__(self, storage_dir: Path) -> None:
        self._path = storage_dir / data_folders.KAFKA_ACCEPTED
        self._turn = Turn("note of accepted losses")
        self._losses: tuple[Accepted, ...] | None = None
        """None: not read yet."""

    def all(self) -> tuple[Accepted, ...]:
        if self._losses is None:
            with self._turn.held():
                return self._read()
        return self._losses

    def add(self, loss: Accepted) -> None:
        """Note a loss durably; once, also if it is accepted again."""
        with self._turn.held():
            self._write(tuple(dict.fromkeys((*self._read(), loss))))

    def remove(self, loss: Accepted) -> None:
        with self._turn.held():
            self._write(tuple(other for other in self._read() if other != loss))

    def _read(self) -> tuple[Accepted, ...]:
        if self._losses is None:
            stored = small_files.read_or_quarantine(self._path, _StoredLosses)
            self._losses = stored.losses if stored is not None else ()
        return self._losses

    def _write(self, losses: tuple[Accepted, ...]) -> None:
        if losses:
            small_files.write(self._path, _StoredLosses(losses))
        else:
            remove_durably(self._path)
        self._losses = losses
