"""Predicts how long a restore takes, from earlier ones on this machine: `STORAGE_DIR/restore_speeds.json`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Literal

import msgspec

from eventvault import data_folders, small_files
from eventvault.errors import NoSpace

MAX_RESTORES = 20
"""How many restores the file holds, the newest ones."""
UNKNOWN_BYTES_A_SECOND = 50e6
UNKNOWN_SECONDS = 1.0
"""Assumed before the first restore: the time of an empty one, and the bytes read a second."""


class RestoreDuration(msgspec.Struct, frozen=True, array_like=True):
    """One restore: the bytes that it read, and how long it took, in seconds."""

    size: int
    seconds: float


class _Speeds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`restore_speeds.json`. EventVault 0.1.0 wrote the list alone."""

    format: Literal[1]
    restores: tuple[RestoreDuration, ...]


def note(storage_dir: Path, size: int, seconds: float) -> None:
    """Note how long a restore took. A full disk is ignored: only predictions get worse."""
    with contextlib.suppress(OSError, NoSpace):
        restores = [*read_durations(storage_dir), RestoreDuration(size, seconds)][-MAX_RESTORES:]
        small_files.write(storage_dir / data_folders.RESTORE_SPEEDS, _Speeds(1, tuple(restores)))


def read_durations(storage_dir: Path) -> list[RestoreDuration]:
    path = storage_dir / data_folders.RESTORE_SPEEDS
    with contextlib.suppress(OSError):
        speeds = small_files.read_or_quarantine(path, _Speeds, earlier=list[RestoreDuration])
        return list(speeds.restores) if isinstance(speeds, _Speeds) else speeds or []
    return []


def predict(restores: list[RestoreDuration], size: int) -> float:
    """Predict the seconds of a restore that reads `size` bytes: a constant part, and one for the bytes.

    The constant part is the time of the quickest restore; the rate is the median of the restores that took longer.
    """
    if not restores:
        return round(UNKNOWN_SECONDS + size / UNKNOWN_BYTES_A_SECOND, 1)
    quickest = min(restores, key=lambda restore: restore.seconds)
    rates = [
        (restore.size - quickest.size) / (restore.seconds - quickest.seconds)
        for restore in restores
        if restore.size > quickest.size and restore.seconds > quickest.seconds
    ]
    rate = sorted(rates)[len(rates) // 2] if rates else UNKNOWN_BYTES_A_SECOND
    return round(quickest.seconds + max(0, size - quickest.size) / rate, 1)
