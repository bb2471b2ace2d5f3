"""The scratch folder of a rehearsal, in STORAGE_DIR, where a restore would build its database too.

A process that is killed leaves its folder. It held a lock in there, which the kernel has released: so the next
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
    """Yield a new folder that is removed when the context is left, however it is. Raises NoSpace or OSError."""
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
    """Remove the scratch folders of processes that are gone. What cannot be removed now waits for the next call."""
    with suppress(OSError):
        for folder in matching(storage_dir, f"{data_folders.REHEARSAL_PREFIX}*"):
            with suppress(OSError), holding(folder / _LOCK, 0) as is_free:
                if is_free:
                    remove_durably(folder)
