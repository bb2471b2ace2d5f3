"""Cuts off the torn end of a log: LevelDB with paranoid checks refuses to open a log with one.

The bytes that are cut off stay in `STORAGE_DIR/cut_off` for 30 days. A record that has its full length may have been
acknowledged: the name of its file ends in `.changed` until it is known which events are lost.
"""

from __future__ import annotations

import hashlib
import logging
import os
import struct
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from eventvault.database import keys
from eventvault.database.generation import NO_BOUND
from eventvault.files import make_folder, matching, remove_durably, rename_durably, write_durably
from eventvault.leveldb.examine import LogState
from eventvault.leveldb.log import Ending, read_unchecked
from eventvault.leveldb.write_batch import put_keys
from eventvault.regular_files import open_file, read_file

log = logging.getLogger("EventBus")

RETENTION_SECONDS = 30 * 86400.0
_CHANGED = ".changed"


def cut_torn_ends(database: Path, logs: Iterable[LogState], retain_in: Path | None) -> None:
    """Cut each torn log of a closed database after its last whole record, durably.

    retain_in: the folder for the bytes that are cut off; None: they are not retained. May be repeated after a kill.
    Raises NoSpace or OSError; then LevelDB must not open the database.
    """
    for state in logs:
        if state.ending is Ending.TORN:
            _cut(database / state.name, state, retain_in)


def last_changed_event(folder: Path) -> int:
    """Return the last sequence in the changed records of `folder`; 0: no event, NO_BOUND: they cannot be read."""
    return max((_last_event(file) for file in _changed(folder)), default=0)


def has_changed(folder: Path) -> bool:
    """Return whether `folder` has changed records for which it is not known yet which events are lost."""
    return bool(_changed(folder))


def settle_changed(folder: Path) -> None:
    """Note for all changed records in `folder` that it is known which events are lost."""
    for file in _changed(folder):
        rename_durably(file, file.with_suffix(".log"))


def remove_expired(folder: Path) -> None:
    """Remove the files in `folder` that are older than RETENTION_SECONDS."""
    with suppress(OSError):
        for file in folder.iterdir():
            if time.time() - file.stat().st_mtime > RETENTION_SECONDS:
                remove_durably(file)


def _changed(folder: Path) -> list[Path]:
    return matching(folder, f"*{_CHANGED}")


def _last_event(file: Path) -> int:
    offset = int(file.name.split("-")[1])
    try:
        event_keys = [key for key in put_keys(read_unchecked(read_file(file), offset)) if key.startswith(keys.EVENT)]
        sequences = [keys.sequence_of(key) for key in event_keys]
    except (ValueError, IndexError, struct.error):
        return NO_BOUND
    in_order = sequences == list(range(sequences[0], sequences[0] + len(sequences))) if sequences else True
    return max(sequences, default=0) if in_order else NO_BOUND


def _cut(path: Path, state: LogState, retain_in: Path | None) -> None:
    with open_file(path, "r+b") as file:
        file.seek(state.offset)
        end = file.read()
        retained = ""
        if retain_in is not None:
            make_folder(retain_in)
            suffix = _CHANGED if state.changed else ".log"
            name = f"{path.stem}-{state.offset}-{hashlib.sha256(end).hexdigest()[:8]}{suffix}"
            write_durably(retain_in / name, end)
            retained = f"; they stay in {retain_in / name}"
        file.truncate(state.offset)
        os.fsync(file.fileno())
    log.warning("%s ends within a record (%s): its last %s bytes were cut off%s", path, state.reason, len(end),
                retained)  # fmt: skip
