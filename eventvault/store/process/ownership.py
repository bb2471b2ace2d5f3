"""Who owns the database: the process that holds `owner.lock`, from before it opens LevelDB until it ends.

The lock has no time limit: an owner that was stopped and woke up after a limit would still commit what it had queued.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from eventvault import data_folders, small_files
from eventvault.errors import EventVaultError
from eventvault.file_locks import holder_of, is_range_locked, lock_handle, lock_range, open_lock_file
from eventvault.files import make_folder, matching, names_open_file
from eventvault.regular_files import NotRegular, open_file, open_handle
from eventvault.rpc import sockets
from eventvault.small_files import SmallFileDamaged
from eventvault.store.process import MASTER_VARIABLE
from eventvault.system_errors import lock_holder

log = logging.getLogger("BackupManager")

ACQUIRE_SECONDS = 3.0
END_SECONDS = 20.0
"""How long a store that no longer listens has to end, before the next store kills it."""
KILLED_SECONDS = 3.0
"""How long the kernel has to end a killed store and to release its locks."""
_MAX_SERVICES = 50


class _Services(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`services.json`. EventVault 0.1.0 wrote the list alone."""

    format: Literal[1]
    services: tuple[str, ...]


class OwnerLock:
    """The lock that makes this process the owner of a database, released by the kernel with the process.

    A store of EventVault 0.1.0 has only the `flock`, which any other program may hold, too. name, database: by default
    those of the store. socket: where the owner listens.
    """

    def __init__(
        self,
        storage_dir: Path,
        name: str = data_folders.OWNER_LOCK,
        *,
        socket: str = data_folders.SOCKET,
        database: str = data_folders.DATABASE,
    ) -> None:
        self._storage_dir = storage_dir
        self._path = storage_dir / name
        self._socket = socket
        self._database_lock = storage_dir / database / "LOCK"
        self._handle: int | None = None

    def acquire(self, seconds: float = ACQUIRE_SECONDS) -> bool:
        """Take the lock. Returns False if another owner holds it for `seconds` and listens.

        An owner that does not listen is ending, or hangs: it is killed after END_SECONDS.
        """
        make_folder(self._path.parent)
        handle = open_lock_file(self._path)
        owns = lock_range(handle, seconds) or self._outlast_holder(handle)
        if not owns or not self._lock_whole(handle, seconds):
            os.close(handle)
            return False
        self._handle = handle
        _note_holder(handle)
        return True

    def _outlast_holder(self, handle: int) -> bool:
        """Take the lock from an owner that no longer listens, once it has ended or was killed.

        Returns False if an owner listens, or still holds the lock.
        """
        if self._listens():
            return False
        if lock_range(handle, END_SECONDS):
            return True
        return not self._listens() and _kill_holder(handle) and lock_range(handle, KILLED_SECONDS)

    def _lock_whole(self, handle: int, seconds: float) -> bool:
        """Take the `flock`. Returns False if a store of EventVault 0.1.0 holds it; other programs may hold it."""
        if lock_handle(handle, exclusive=True, seconds=seconds):
            return True
        if self._listens() or lock_holder(self._database_lock) is not None:
            return False
        log.warning("%s holds a lock on %s; this process goes on without it", holder_of(handle), self._path)
        return True

    def _listens(self) -> bool:
        return sockets.listens(self._storage_dir, self._socket)

    def holds(self) -> bool:
        """Return False if the lock file of this process is no longer in STORAGE_DIR, because that was removed.

        After an error of the system it returns True: the kernel still holds the lock for this process.
        """
        try:
            return self._handle is not None and names_open_file(self._path, self._handle)
        except OSError:
            return True


def _note_holder(handle: int) -> None:
    """Write this process's id for the next store, which kills this one if it hangs; not if the disk is full."""
    with contextlib.suppress(OSError):
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()} {birth_of(os.getpid())}\n".encode(), 0)


def _kill_holder(handle: int) -> bool:
    """Kill the owner whose process id is in the lock file. Returns False if it cannot be killed."""
    with contextlib.suppress(OSError, ValueError):
        pid, birth = map(int, os.pread(handle, 100, 0).split())
        process = os.pidfd_open(pid)
        try:
            if pid != os.getpid() and birth_of(pid) == birth:
                log.error("process %s, of an earlier start, does not end within %.0f s and is killed", pid,
                          END_SECONDS)  # fmt: skip
                signal.pidfd_send_signal(process, signal.SIGKILL)
                return True
        finally:
            os.close(process)
    return False


class Owner(NamedTuple):
    """The process that holds `owner.lock`. pid: None if it could not write its id. born: in ticks since the boot."""

    pid: int | None = None
    born: int | None = None


def find_owner(storage_dir: Path) -> Owner | None:
    """Return who owns the database, None if nobody does. Takes no lock and changes nothing. Raises OSError."""
    try:
        handle = open_handle(storage_dir / data_folders.OWNER_LOCK)
    except (FileNotFoundError, NotADirectoryError, NotRegular, IsADirectoryError):
        return None
    try:
        if not is_range_locked(handle):
            return None
        with contextlib.suppress(ValueError):
            pid, birth = map(int, os.pread(handle, 100, 0).split())
            return Owner(pid, birth)
        return Owner()
    finally:
        os.close(handle)


def master_lives(pid: str | None) -> bool:
    """Return whether gunicorn's master lives; True if there is none. pid: as in `MASTER_VARIABLE`.

    A worker whose master was killed may start a store until it ends itself. That store must not take the database from
    the start of the service that comes next.
    """
    return pid is None or not pid.isdecimal() or birth_of(int(pid)) is not None


def watched_master(pid: str | None) -> Callable[[], bool]:
    """Return a function that returns whether gunicorn's master still lives; False if there is none.

    pid: as in `MASTER_VARIABLE`. A later process with the same id is not the master.
    """
    if pid is None or not pid.isdecimal():
        return lambda: False
    master, birth = int(pid), birth_of(int(pid))
    return lambda: birth is not None and birth_of(master) == birth


def announce_start(storage_dir: Path, service: str) -> None:
    """Announce a start of the service, so that the next store does the start's restores before it serves.

    Otherwise a store could acknowledge events that a restore of this start would replace. The announcement counts while
    the master lives, so it need not be durable. If the disk does not take it, the start goes on without it, because a
    service that only reads must not need a write: the start still ends any other store before its own one restores.
    """
    try:
        if service not in _services(storage_dir):
            _write_announcement(storage_dir / data_folders.STARTING, service)
    except SmallFileDamaged:  # the owner of the database decides what that means
        return
    except (EventVaultError, OSError) as error:
        log.warning("this start could not be announced in %s: %s", storage_dir, error)


def _write_announcement(folder: Path, service: str) -> None:
    make_folder(folder)
    pid = os.environ.get(MASTER_VARIABLE) or str(os.getpid())
    temporary = folder / f".{pid}{data_folders.TEMPORARY_SUFFIX}"
    try:
        with open_file(temporary, "wb") as file:
            file.write(f"{birth_of(int(pid))} {service}".encode())
        temporary.rename(folder / pid)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def starts_to_serve(storage_dir: Path, service: str) -> list[str]:
    """Return the starts of the service whose restores have to be done: `service`, and the announced ones that live.

    A store that takes over belongs to a start that was served, so it restores nothing from `restore/`. Only the owner
    may call this and `remember_starts`. If the record is damaged, `service` counts as served: restoring nothing is
    safe, and the next start restores what waits in `restore/`.
    """
    done = _services_or_quarantined(storage_dir)
    if done is None:
        _write_services(storage_dir, (service,))
        return announced_starts(storage_dir)
    return [start for start in dict.fromkeys([service, *announced_starts(storage_dir)]) if start not in done]


def announced_starts(storage_dir: Path) -> list[str]:
    """Return the announced starts whose master lives and whose restores have to be done."""
    try:
        done = _services(storage_dir)
    except SmallFileDamaged:
        return []
    return [start for _, start in _announcements(storage_dir) if start is not None and start not in done]


def service_runs(storage_dir: Path) -> bool:
    """Return whether a start of the service was announced whose master lives: its workers start a missing store.

    A store of a command in its place would have neither Kafka nor schedule.
    """
    return any(start is not None for _, start in _announcements(storage_dir))


def remember_starts(storage_dir: Path, starts: Sequence[str]) -> None:
    """Record that these starts of the service have restored what they had to."""
    services = _services_or_quarantined(storage_dir) or ()
    new = [start for start in starts if start not in services]
    if new:
        _write_services(storage_dir, (*services, *new))
    for file, start in _announcements(storage_dir):
        if start is None:  # the others show that a service runs
            with contextlib.suppress(OSError):
                file.unlink()


def _announcements(storage_dir: Path) -> list[tuple[Path, str | None]]:
    """Return each file of an announcement with its start; None if the master that announced it has ended."""
    announcements: list[tuple[Path, str | None]] = []
    try:
        files = matching(storage_dir / data_folders.STARTING, "[0-9]*")
    except OSError as error:  # a start goes on without announcements, too
        log.warning("the announced starts cannot be read: %s", error)
        return []
    for file in files:
        with contextlib.suppress(OSError, ValueError, SmallFileDamaged):
            birth, _, start = small_files.read_bytes(file).decode().partition(" ")
            announcements.append((file, start if birth == str(birth_of(int(file.name))) else None))
    return announcements


def birth_of(pid: int) -> int | None:
    """Return when a process began, in ticks since the boot; None if it has ended, 0 if the kernel does not tell."""
    try:
        status = _status_of(pid)
    except (FileNotFoundError, ProcessLookupError):
        return None
    except OSError:
        return 0
    return None if status[0] in (b"Z", b"X") else int(status[19])


def is_stopped(pid: int) -> bool:
    """Return whether a signal has stopped a process; False if the kernel does not tell."""
    with contextlib.suppress(OSError):
        return _status_of(pid)[0] == b"T"
    return False


def _status_of(pid: int) -> list[bytes]:
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()


def _write_services(storage_dir: Path, services: tuple[str, ...]) -> None:
    small_files.write(storage_dir / data_folders.SERVICES, _Services(1, services[-_MAX_SERVICES:]))


def _services_or_quarantined(storage_dir: Path) -> tuple[str, ...] | None:
    """Return the recorded services; None if the file was damaged, which is quarantined. Only for the owner."""
    try:
        return _services(storage_dir)
    except SmallFileDamaged as error:
        small_files.quarantine_or_log(storage_dir / data_folders.SERVICES, error)
        return None


def _services(storage_dir: Path) -> tuple[str, ...]:
    """Return the recorded services. Raises SmallFileDamaged or OSError."""
    try:
        services = small_files.read(storage_dir / data_folders.SERVICES, _Services, earlier=list[str])
    except FileNotFoundError:
        return ()
    return services.services if isinstance(services, _Services) else tuple(services)
