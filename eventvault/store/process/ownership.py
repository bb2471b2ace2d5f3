"""Who owns the database: the process with the flock on `owner.lock`, from before LevelDB is opened to its end.

The lock has no time limit: an owner that was stopped and woke up after a limit would still commit what it had queued.
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
_MAX_SERVICES = 50


class OwnerLock:
    """The lock that makes this process the owner, released by the kernel with the process."""

    def __init__(self, storage_dir: Path) -> None:
        self._path = storage_dir / data_folders.OWNER_LOCK
        self._handle: int | None = None

    def acquire(self, seconds: float = ACQUIRE_SECONDS) -> bool:
        """Take the lock. Returns False if another process holds it for `seconds`."""
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
        """Whether the lock file of this process is still the one in STORAGE_DIR; False if STORAGE_DIR was removed."""
        return self._handle is not None and names_open_file(self._path, self._handle)


def master_lives(pid: str | None) -> bool:
    """Whether gunicorn's master lives; True if there is none. pid: as in `MASTER_VARIABLE`.

    A worker whose master was killed may start a store until it ends itself. That store must not take the database from
    the start of the service that comes next.
    """
    if pid is None:
        return True
    try:
        status = Path(f"/proc/{int(pid)}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
    except (OSError, ValueError):
        return True
    return status.rpartition(b")")[2].split()[0] not in (b"Z", b"X")


def is_first_of_service(storage_dir: Path, service: str) -> bool:
    """Whether this is the first store of this start of the service that gets so far.

    A store that takes over later belongs to the same start and restores nothing from `restore/`. Only the owner may
    call this and `remember_service`.
    """
    return service not in _services(storage_dir)


def remember_service(storage_dir: Path, service: str) -> None:
    """Record that this start of the service has restored what it had to."""
    services = _services(storage_dir)
    if service not in services:
        write_durably(storage_dir / data_folders.SERVICES, msgspec.json.encode([*services, service][-_MAX_SERVICES:]))


def _services(storage_dir: Path) -> list[str]:
    try:
        return msgspec.json.decode((storage_dir / data_folders.SERVICES).read_bytes(), type=list[str])
    except (FileNotFoundError, msgspec.MsgspecError):
        return []
