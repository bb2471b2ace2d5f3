"""A FUSE file system that passes all through to a folder, but knows neither hard links nor clones nor folder syncs.

Many network file systems are like that. `python -m tests.limited_file_system FOLDER MOUNT_POINT` serves one until it is
unmounted. With --sync-folders behind that, it syncs folders; with --no-sockets it has no Unix sockets. Reads of what
FOLDER.bad names (lines of a file's name and the first and last byte) fail with EIO, as a disk with bad sectors does.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from mfusepy import FUSE, Operations

from eventvault.files import sync_folder


def bad_sectors(folder: Path) -> Path:
    """The file that names the bad sectors of the file system in `folder`."""
    return folder.with_name(f"{folder.name}.bad")


class LimitedFileSystem(Operations):
    """Paths begin with a slash and lie below `folder`. What has no method, such as a clone, is not supported."""

    use_ns = True
    """Times are nanoseconds."""

    def __init__(self, folder: Path, *, sync_folders: bool, sockets: bool = True) -> None:
        self._folder = folder
        self._sockets = sockets
        self._sync_folders = sync_folders

    def _real(self, path: str) -> Path:
        return self._folder / path[1:]

    def link(self, target: str, source: str) -> int:
        raise OSError(errno.EPERM, "no hard links", target)

    def fsyncdir(self, path: str, datasync: int, fh: int) -> None:
        if not self._sync_folders:
            raise OSError(errno.EINVAL, "no folder syncs", path)
        sync_folder(self._real(path))

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        status = os.lstat(self._real(path)) if fh is None else os.fstat(fh)
        times = {name: getattr(status, f"{name}_ns") for name in ("st_atime", "st_mtime", "st_ctime")}
        others = ("st_mode", "st_nlink", "st_uid", "st_gid", "st_size", "st_blocks")
        return {name: getattr(status, name) for name in others} | times

    def statfs(self, path: str) -> dict[str, int]:
        status = os.statvfs(self._real(path))
        return {name: getattr(status, name) for name in dir(status) if name.startswith("f_")}

    def readdir(self, path: str, fh: int) -> Iterator[str]:
        yield from (".", "..", *(child.name for child in self._real(path).iterdir()))

    def create(self, path: str, mode: int, flags: int) -> int:
        return os.open(self._real(path), flags & ~os.O_APPEND | os.O_CREAT, mode)

    def open(self, path: str, flags: int) -> int:
        return os.open(self._real(path), flags & ~os.O_APPEND)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        for name, first, last in self._bad_ranges():
            if path.endswith(f"/{name}") and offset <= last and first < offset + size:
                raise OSError(errno.EIO, "a bad sector", path)
        return os.pread(fh, size, offset)

    def _bad_ranges(self) -> Iterator[tuple[str, int, int]]:
        with suppress(FileNotFoundError):
            for line in bad_sectors(self._folder).read_text().splitlines():
                name, first, last = line.split()
                yield name, int(first), int(last)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        return os.pwrite(fh, data, offset)

    def truncate(self, path: str, length: int, fh: int | None = None) -> None:
        os.truncate(self._real(path) if fh is None else fh, length)

    def fsync(self, path: str, datasync: int, fh: int) -> None:
        os.fsync(fh)

    def release(self, path: str, fh: int) -> None:
        os.close(fh)

    def mknod(self, path: str, mode: int, dev: int) -> None:
        if stat.S_ISSOCK(mode) and not self._sockets:
            raise OSError(errno.EPERM, "no sockets", path)
        os.mknod(self._real(path), mode, dev)

    def mkdir(self, path: str, mode: int) -> None:
        self._real(path).mkdir(mode)

    def rmdir(self, path: str) -> None:
        self._real(path).rmdir()

    def unlink(self, path: str) -> None:
        self._real(path).unlink()

    def rename(self, old: str, new: str) -> None:
        self._real(old).rename(self._real(new))

    def symlink(self, target: str, source: str) -> None:
        self._real(target).symlink_to(source)

    def readlink(self, path: str) -> str:
        return str(self._real(path).readlink())

    def chmod(self, path: str, mode: int) -> None:
        self._real(path).chmod(mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        os.chown(self._real(path), uid, gid)

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> None:
        os.utime(self._real(path), ns=times)


if __name__ == "__main__":
    folder, mount_point, *options = sys.argv[1:]
    FUSE(
        LimitedFileSystem(
            Path(folder), sync_folders="--sync-folders" in options, sockets="--no-sockets" not in options
        ),
        mount_point,
        foreground=True,
        nothreads=True,
    )
