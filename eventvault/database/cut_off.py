"""Cuts off the torn end of a log, which LevelDB refuses to open with paranoid checks.

The live database's bytes that are cut off stay in `STORAGE_DIR/cut_off` for 30 days.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from eventvault.files import make_folder, remove_durably, write_durably
from eventvault.leveldb.examine import LogState
from eventvault.leveldb.log import Ending

log = logging.getLogger("EventBus")

RETENTION_SECONDS = 30 * 86400.0


def cut_torn_ends(database: Path, logs: Iterable[LogState], retain_in: Path | None) -> None:
    """Cut each torn log of a closed database after its last whole record, durably.

    retain_in: the folder for the bytes that are cut off; None: they are not retained. May be repeated after a kill.
    Raises NoSpace or OSError; then LevelDB must not open the database.
    """
    for state in logs:
        if state.ending is Ending.TORN:
            _cut(database / state.name, state, retain_in)


def remove_expired(folder: Path) -> None:
    """Remove the files in `folder` that were retained for long enough."""
    with suppress(OSError):
        for file in folder.iterdir():
            if time.time() - file.stat().st_mtime > RETENTION_SECONDS:
                remove_durably(file)


def _cut(path: Path, state: LogState, retain_in: Path | None) -> None:
    with path.open("r+b") as file:
        file.seek(state.offset)
        end = file.read()
        retained = ""
        if retain_in is not None:
            make_folder(retain_in)
            name = f"{path.stem}-{state.offset}-{hashlib.sha256(end).hexdigest()[:8]}.log"
            write_durably(retain_in / name, end)
            retained = f"; they stay in {retain_in / name}"
        file.truncate(state.offset)
        os.fsync(file.fileno())
    log.warning("%s ends within a record (%s): its last %s bytes were cut off%s", path, state.reason, len(end),
                retained)  # fmt: skip
