"""Where store and dispatcher listen: in STORAGE_DIR, or in a substitute folder while no socket can be made there.

The substitute lies in the system's temporary folder and belongs to the user of the service alone. A lock file decides
who owns a database, wherever its owner listens. `name` is the name of the socket; by default, of the store's.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import socket
import stat
from pathlib import Path

from eventvault import data_folders
from eventvault.files import matching, sync_folder, temporary_folder
from eventvault.rpc import frames
from eventvault.system_errors import is_busy

_BACKLOG = 256
_UNFINISHED = (".*.{name}", ".????????.sock")
"""Patterns of temporary names; EventVault 0.1.0 used the second one."""


def connect(storage_dir: Path, timeout: float, name: str = data_folders.SOCKET) -> socket.socket:
    """Connect to whoever listens for STORAGE_DIR. Raises OSError if nobody listens."""
    try:
        return frames.connect(storage_dir / name, timeout)
    except OSError as error:
        substitute = _substitute(storage_dir)
        if is_busy(error) or not _is_private(substitute):
            raise
        return frames.connect(substitute / name, timeout)


def listens(storage_dir: Path, name: str = data_folders.SOCKET) -> bool:
    with contextlib.suppress(OSError):
        connect(storage_dir, 1.0, name).close()
        return True
    return False


def listen(storage_dir: Path, name: str = data_folders.SOCKET) -> tuple[socket.socket, Path]:
    """Listen in STORAGE_DIR, or in the substitute if that fails. Returns the listener and its path. Raises OSError."""
    try:
        return _listen_in(storage_dir, name), storage_dir / name
    except OSError:
        substitute = _substitute(storage_dir)
        try:
            with contextlib.suppress(FileExistsError):
                substitute.mkdir(mode=0o700)
            if _is_private(substitute):
                return _listen_in(substitute, name), substitute / name
        except OSError:
            pass
        raise


def remove(path: Path) -> None:
    """Remove the socket of a process that ends, and the folder that was made for it."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
        if path.parent.parent == temporary_folder():
            path.parent.rmdir()


def _listen_in(folder: Path, name: str = data_folders.SOCKET) -> socket.socket:
    """Bind a temporary name and rename it, so that whoever finds the socket's name also finds a listener."""
    for pattern in _UNFINISHED:
        for unfinished in matching(folder, pattern.format(name=name)):  # a process was killed before the rename
            unfinished.unlink(missing_ok=True)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        temporary = f".{secrets.token_hex(4)}.{name}"
        try:
            listener.bind(frames.short_path(handle, temporary))
            os.chmod(temporary, 0o600, dir_fd=handle)
            listener.listen(_BACKLOG)
            os.rename(temporary, name, src_dir_fd=handle, dst_dir_fd=handle)
        except BaseException:
            listener.close()
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=handle)
            raise
    finally:
        os.close(handle)
    sync_folder(folder)
    return listener


def _substitute(storage_dir: Path) -> Path:
    owner = hashlib.sha256(os.fsencode(storage_dir.resolve())).hexdigest()[:16]
    return temporary_folder() / f"eventvault-{os.geteuid()}-{owner}"


def _is_private(folder: Path) -> bool:
    """Return whether this is a folder that no other user can have made, or can put a socket into."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077
