"""How fast restores are on this machine, from the earlier ones: `STORAGE_DIR/restore_speeds.json`."""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec

from eventvault import data_folders
from eventvault.errors import NoSpace
from eventvault.files import write_durably

KEPT = 20
UNKNOWN_BYTES_A_SECOND = 50e6
UNKNOWN_SECONDS = 1.0
"""What is assumed before the first restore: any one takes this long, and reads so many bytes a second."""


class Took(msgspec.Struct, frozen=True, array_like=True):
    """One restore: the bytes that it read, and how long it took, in seconds."""

    size: int
    seconds: float


def note(storage_dir: Path, size: int, seconds: float) -> None:
    """Keep how long a restore took. Losing it costs a guess, so a full disk is no failure."""
    with contextlib.suppress(OSError, NoSpace):
        took = [*known(storage_dir), Took(size, seconds)][-KEPT:]
        write_durably(storage_dir / data_folders.RESTORE_SPEEDS, msgspec.json.encode(took))


def known(storage_dir: Path) -> list[Took]:
    try:
        return msgspec.json.decode((storage_dir / data_folders.RESTORE_SPEEDS).read_bytes(), type=list[Took])
    except (OSError, msgspec.MsgspecError):
        return []


def predict(took: list[Took], size: int) -> float:
    """Seconds that a restore which reads `size` bytes will take: what any one takes, and what its bytes take.

    The share of the bytes is told from those that took longer than the quickest.
    """
    if not took:
        return round(UNKNOWN_SECONDS + size / UNKNOWN_BYTES_A_SECOND, 1)
    least = min(took, key=lambda each: each.seconds)
    rates = [
        (each.size - least.size) / (each.seconds - least.seconds)
        for each in took
        if each.size > least.size and each.seconds > least.seconds
    ]
    rate = sorted(rates)[len(rates) // 2] if rates else UNKNOWN_BYTES_A_SECOND
    return round(least.seconds + max(0, size - least.size) / rate, 1)
