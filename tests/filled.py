"""Databases of plausible events, filled once a test process and then copied: to fill one takes a second for 8 MB."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from benchmarks import events


def fill(database: Path, size: int) -> None:
    """Make a closed database of about `size` bytes, all of it in tables. Those of one size have the same identity."""
    shutil.copytree(_filled(size), database)


@cache
def _filled(size: int) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="filled-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    events.fill(folder / "database", size)
    return folder / "database"
