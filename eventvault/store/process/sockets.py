"""Where the store listens: in STORAGE_DIR, or in a folder of its own elsewhere while none can be made there.

That folder lies in the system's temporary folder and belongs to the user of the service alone. `owner.lock` decides who
owns the database, wherever its owner listens.
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
from eventvault.damage import is_busy
from eventvault.files import matching, sync_folder, temporary_folder
from eventvault.store.rpc import wire

_BACKLOG = 256
_UNFINISHED = ".*.sock"


def connect(storage_dir: Path, timeout: float) -> socket.socket:
    """Connect to the store of STORAGE_DIR. Raises OSError if nobody listens."""
    try:
        return wire.connect(storage_dir / data_folders.SOCKET, timeout)
    except OSError as error:
        substitute = _substitute(storage_dir)
        if is_busy(error) or not _is_private(substitute):
            raise
        return wire.connect(substitute / data_folders.SOCKET, timeout)


def listens(storage_dir: Path) -> bool:
    """Return whether a store listens."""
    with contextlib.suppress(OSError):
        connect(storage_dir, timeout=1.0).close()
        return True
    return False


def listen(storage_dir: Path) -> tuple[socket.socket, Path]:
    """Listen in STORAGE_DIR, or elsewhere if the disk does not take a socket. Returns the listener and its path."""
    try:
        return _listen_in(storage_dir), storage_dir / data_folders.SOCKET
    except OSError:
        substitute = _substitute(storage_dir)
        try:
            with contextlib.suppress(FileExistsError):
                substitute.mkdir(mode=0o700)
            if _is_private(substitute):
                return _listen_in(substitute), substitute / data_folders.SOCKET
        except OSError:
            pass
        raise


def remove(path: Path) -> None:
    """Remove the socket of a store that ends, and the folder that was made for it."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
        if path.parent.parent == temporary_folder():
            path.parent.rmdir()


def _listen_in(folder: Path) -> socket.socket:
    """Bind under a temporary name and rename it: behind the socket's name there is always a listener."""
    for unfinished in matching(folder, _UNFINISHED):  # of a store that was killed at this point
        unfinished.unlink(missing_ok=True)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        temporary = f".{secrets.token_hex(4)}.sock"
        try:
            listener.bind(wire.short_path(handle, temporary))
            os.chmod(temporary, 0o600, dir_fd=handle)
            listener.listen(_BACKLOG)
            os.rename(temporary, data_folders.SOCKET, src_dir_fd=handle, dst_dir_fd=handle)
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
