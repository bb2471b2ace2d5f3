"""Checks before anything starts that STORAGE_DIR has sockets and locks, and that there is a temporary folder.

Some file systems have no Unix sockets or no locks (SMB, 9p, shared folders of virtual machines). In some containers the
system's temporary folders are read-only.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import socket
import tempfile
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from eventvault import data_folders, small_files
from eventvault.errors import InvalidSettings
from eventvault.regular_files import open_file
from eventvault.settings import Settings, make_folders
from eventvault.small_files import SmallFileDamaged

_UNSUPPORTED = frozenset(
    {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.ENOLCK, errno.ENXIO}
)
"""Other errors, such as a full disk, say nothing about what a folder can do."""


def prepare_folders(settings: Settings) -> None:
    """Make the data folders, and see that a store can run in them. Raises InvalidSettings."""
    make_folders(settings)
    check_storage(settings)
    clear_lock_paths(settings)
    ensure_temporary_folder(settings)


def check_storage(settings: Settings) -> None:
    """Raise InvalidSettings if STORAGE_DIR has no Unix sockets or no file locks."""
    folder = settings.storage_dir
    needed = {
        "Unix sockets, which the processes of the service use": _make_socket,
        "file locks (flock), which keep two stores from one database": _lock_whole_file,
        "file locks (fcntl), which LevelDB uses": _lock_range,
    }
    lacking = [what for what, probe in needed.items() if not _supports(folder, probe)]
    if lacking:
        problem = f"STORAGE_DIR {folder} is on a file system without {'; without '.join(lacking)}"
        hint = "set STORAGE_DIR to a folder on a local disk, such as ext4, XFS or btrfs; BACKUP_DIR may stay there"
        raise InvalidSettings(problem, hint=hint, problems=[problem])


def clear_lock_paths(settings: Settings) -> None:
    """Rename a folder or a link that is in the place of a lock file or of the socket: no store could start.

    No process holds a lock on such a thing, so none loses one. Health names what was renamed.
    """
    for name in (data_folders.INITIALIZE_LOCK, data_folders.SPAWN_LOCK, data_folders.OWNER_LOCK, data_folders.SOCKET):
        path = settings.storage_dir / name
        if path.is_symlink() or path.is_dir():
            damage = SmallFileDamaged(
                f"{path} is a {'link' if path.is_symlink() else 'folder'}, which EventVault did not make"
            )
            small_files.quarantine_or_log(path, damage)


def ensure_temporary_folder(settings: Settings) -> None:
    """If the system has no temporary folder to write to, let this process and its children use one in STORAGE_DIR."""
    with suppress(OSError):
        # Python's last resort is the working directory, which is not for temporary files.
        if Path(tempfile.gettempdir()) != Path.cwd():
            return
    folder = settings.storage_dir / data_folders.TEMPORARY_FOLDER
    folder.mkdir(exist_ok=True)
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)


def _supports(folder: Path, probe: Callable[[Path], None]) -> bool:
    path = folder / f".{secrets.token_hex(4)}{data_folders.TEMPORARY_SUFFIX}"
    try:
        probe(path)
    except OSError as error:
        return error.errno not in _UNSUPPORTED
    finally:
        with suppress(OSError):
            path.unlink()
    return True


def _make_socket(path: Path) -> None:
    parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)  # the path of a socket has at most 107 bytes
    try:
        with closing(socket.socket(socket.AF_UNIX)) as probe:
            probe.bind(f"/proc/self/fd/{parent}/{path.name}")
    finally:
        os.close(parent)


def _lock_whole_file(path: Path) -> None:
    with open_file(path, "xb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _lock_range(path: Path) -> None:
    with open_file(path, "xb") as file:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
