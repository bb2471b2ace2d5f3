"""Who owns the database: an flock on `owner.lock`, taken before LevelDB is opened and held to the end.

Never a lease by time: an owner that was stopped and wakes up would commit what it had queued.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import msgspec

from eventvault import data_folders
from eventvault.files import make_folder, names_open_file, write_durably

ACQUIRE_SECONDS = 3.0
_REMEMBERED = 50


class OwnerLock:
    """The lock that makes this process the owner, released by the kernel with the process."""

    def __init__(self, storage_dir: Path) -> None:
        self._path = storage_dir / data_folders.OWNER_LOCK
        self._handle: int | None = None

    def acquire(self, seconds: float = ACQUIRE_SECONDS) -> bool:
        """False where another process is the owner and stays it for `seconds`."""
        make_folder(self._path.parent)
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    os.close(handle)
                    return False
                time.sleep(0.005)
            else:
                self._handle = handle
                return True

    def holds(self) -> bool:
        """Whether the lock that this process has is still the one that others find; not where STORAGE_DIR is gone."""
        return self._handle is not None and names_open_file(self._path, self._handle)


def is_first_of_service(storage_dir: Path, service: str) -> bool:
    """Whether no store of this start of the service has come as far as serving.

    A worker that is started again, or a store that takes over, belongs to a start that was seen, and restores
    nothing. Only the owner may call this and `remember_service`.
    """
    return service not in _services(storage_dir)


def remember_service(storage_dir: Path, service: str) -> None:
    """What the start of this service had to restore is restored."""
    seen = _services(storage_dir)
    if service not in seen:
        write_durably(storage_dir / data_folders.SERVICES, msgspec.json.encode([*seen, service][-_REMEMBERED:]))


def _services(storage_dir: Path) -> list[str]:
    try:
        return msgspec.json.decode((storage_dir / data_folders.SERVICES).read_bytes(), type=list[str])
    except (FileNotFoundError, msgspec.MsgspecError):
        return []
