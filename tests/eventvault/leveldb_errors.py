"""Errors as LevelDB raises them, and a database that another process holds."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import plyvel

MISLEADING_PATH = "/mnt/block-storage/no quota: No space left on device/LOCK"
"""A path with words of many error messages."""
OTHER = [errno.EACCES, errno.EIO, errno.EROFS, errno.ENOENT, errno.EMFILE]
HOLDER = "import plyvel, sys; db = plyvel.DB(sys.argv[1]); print('open', flush=True); sys.stdin.read()"


def from_leveldb(number: int, path: str = MISLEADING_PATH) -> plyvel.IOError:
    return plyvel.IOError(f"IO error: {path}: {os.strerror(number)}".encode())


@contextmanager
def held(database: Path) -> Iterator[int]:
    """Yields the id of another process that has the database open."""
    command = [sys.executable, "-c", HOLDER, str(database)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        yield holder.pid
        holder.communicate(b"")
