"""Folders for what a test process makes once and then uses in many tests, such as a library that it compiles."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path


def folder_until_exit(prefix: str) -> Path:
    """Make a folder that is removed when this process ends; a child that it forks leaves the folder alone."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    atexit.register(_remove, folder, os.getpid())
    return folder


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
