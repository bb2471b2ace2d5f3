"""Opens a LevelDB that exists, and tells a missing one from an error of the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import plyvel

from eventvault.system_errors import text_of

_MISSING = "does not exist (create_if_missing is false)"


def open_existing(folder: Path, **options: Any) -> Any:
    """Open the database in `folder` with these options of plyvel.DB. Raises plyvel.Error, also if it does not exist.

    LevelDB looks for CURRENT and takes every error for a missing database, which would then be reported as damaged. So
    the system is asked about CURRENT again, and its error, unless CURRENT is missing, is raised as OSError.
    """
    try:
        return plyvel.DB(str(folder), create_if_missing=False, **options)
    except plyvel.Error as error:
        if not text_of(error).endswith(_MISSING):
            raise
        try:
            (folder / "CURRENT").stat()
        except FileNotFoundError:
            raise error from None
    return plyvel.DB(str(folder), create_if_missing=False, **options)
