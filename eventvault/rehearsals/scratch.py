"""The scratch folder of a rehearsal, in STORAGE_DIR, where a restore also builds its database.

A process that is killed leaves its folder behind. The kernel releases the lock that the process held in it: so the next
rehearsal, and the next start of the store, know that nobody uses the folder, and remove it.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from eventvault import data_folders
from eventvault.file_locks import holding
from eventvault.files import matching, remove_durably
from eventvault.system_errors import reporting_no_space

_LOCK = "lock"


@contextmanager
def scratch_folder(storage_dir: Path) -> Iterator[Path]:
    """Yield a new folder, which is always removed when the context is left. Raises NoSpace or OSError."""
    remove_abandoned(storage_dir)
    folder = storage_dir / f"{data_folders.REHEARSAL_PREFIX}{secrets.token_hex(4)}"
    with reporting_no_space(f"making {folder}"):
        folder.mkdir()
    try:
        with holding(folder / _LOCK, 0):
            yield folder
    finally:
        with suppress(OSError):  # the next rehearsal, or the next start, removes it
            remove_durably(folder)


def remove_abandoned(storage_dir: Path) -> None:
    """Remove the scratch folders of processes that have ended. Errors are ignored: the next call tries again."""
    with suppress(OSError):
        for folder in matching(storage_dir, f"{data_folders.REHEARSAL_PREFIX}*"):
            with suppress(OSError), holding(folder / _LOCK, 0) as is_free:
                if is_free:
                    remove_durably(folder)
