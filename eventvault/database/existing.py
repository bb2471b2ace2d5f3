"""Opening a LevelDB that is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import plyvel

from eventvault.system_errors import text_of

_MISSING = "does not exist (create_if_missing is false)"


def open_existing(folder: Path, **options: Any) -> Any:
    """Open the database in `folder` with these options of plyvel.DB. Raises plyvel.Error, also if there is none.

    LevelDB takes each error of its look for CURRENT for a missing database, and so it would be called damaged. Here the
    system is asked again: OSError is what it says of CURRENT, unless it is missing.
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
