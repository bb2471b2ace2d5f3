"""Databases of plausible events, filled once a test process and then copied: to fill one takes a second for 8 MB."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path

from benchmarks import events
from tests.made_once import folder_until_exit


def fill(database: Path, size: int) -> None:
    """Make a closed database of about `size` bytes, all of it in tables. Those of one size have the same identity."""
    shutil.copytree(_filled(size), database)


@cache
def _filled(size: int) -> Path:
    folder = folder_until_exit("filled-")
    events.fill(folder / "database", size)
    return folder / "database"
