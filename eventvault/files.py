"""Durable writes: temporary file in the same folder, write, fsync, rename, fsync the folder.

Every file that has to last is written through `durable_file` or `write_durably`, so that a power cut at any time leaves
the old content or the new, complete. `FileIdentity` tells whether a file is still the one that was read.
"""

from __future__ import annotations

import errno
import fcntl
import fnmatch
import os
import secrets
import shutil
import stat
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import msgspec

from eventvault import data_folders
from eventvault.regular_files import open_file, open_handle
from eventvault.system_errors import reporting_no_space

IO_BYTES = 2**20
"""Most bytes in one call: one write of 4 MiB took four times as long as four of 1 MiB (ext4, Linux 6.18: 0.8 against
0.15 s of CPU time for 512 MB)."""

_NO_FOLDER_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP})

CLONE_BLOCK = 4096
"""Files share whole blocks. XFS and btrfs have blocks of this size; a file system with larger ones refuses to clone."""

_FICLONERANGE = 0x4020940D
_CLONE_RANGE = struct.Struct("=qQQQ")
"""`struct file_clone_range` of linux/fs.h: descriptor, offset and length of the source, offset in the target."""


class FileIdentity(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tells one file from another of the same name: a file that is replaced or written to gets another identity.

    size: bytes. modified: mtime in ns. inode: 0 if it is not compared. changed: ctime in ns, 0 if it is not compared.
    """

    size: int
    modified: int
    inode: int
    changed: int = 0

    @classmethod
    def of(cls, status: os.stat_result, *, with_inode: bool = True, with_ctime: bool = False) -> FileIdentity:
        """Return the identity that a `stat` result describes.

        with_inode=False: for a folder whose file system may give the same file another inode number, as network file
        systems do. with_ctime=True: tells a file that was moved away and back from one that stayed.
        """
        inode = status.st_ino if with_inode else 0
        return cls(status.st_size, status.st_mtime_ns, inode, status.st_ctime_ns if with_ctime else 0)

    @classmethod
    def at(cls, path: Path) -> FileIdentity | None:
        """Return the identity of the regular file `path`; None if there is none. Raises OSError."""
        try:
            status = path.lstat()
        except FileNotFoundError:
            return None
        return cls.of(status) if stat.S_ISREG(status.st_mode) else None


_FOLDER_MARK = "user.eventvault.folder"


def folder_mark(folder: Path) -> str:
    """Return the id that `mark_folder` gave to this folder, else its device and inode; empty if it is missing.

    On another disk the id is another one. Device and inode may change for the same folder, as after a reboot.
    """
    with suppress(OSError):
        return os.getxattr(folder, _FOLDER_MARK).decode(errors="replace")
    with suppress(OSError):
        status = folder.stat()
        return f"{status.st_dev}-{status.st_ino}"
    return ""


def mark_folder(folder: Path) -> str:
    """Return the id of this folder, made at the first call if its disk takes one: a read-only disk does not."""
    with suppress(OSError):
        os.setxattr(folder, _FOLDER_MARK, secrets.token_hex(8).encode(), os.XATTR_CREATE)
    return folder_mark(folder)


def names_open_file(path: Path, handle: int) -> bool:
    """Return True if `path` is still the name of the open file `handle`, whatever its content is. Raises OSError."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except (FileNotFoundError, NotADirectoryError):
        return False


def sync_folder(folder: Path) -> None:
    """fsync a folder, so that its names are on disk. EINVAL and ENOTSUP are ignored: not every disk can."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        sync_folder_handle(handle)
    finally:
        os.close(handle)


def sync_folder_handle(handle: int) -> None:
    """Do `sync_folder` with an open handle, for a caller that may have no free descriptor left."""
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise


def can_sync_folder(folder: Path) -> bool:
    """Return False if the file system of `folder` is known to refuse syncs of folders."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        return error.errno not in _NO_FOLDER_SYNC
    finally:
        os.close(handle)
    return True


def temporary_folder() -> Path:
    """Return the system's temporary folder, also if Python finds none that works because a disk failed."""
    with suppress(OSError):
        return Path(tempfile.gettempdir())
    return Path("/tmp")  # nosec B108  # the name of the folder alone; files in it are made by tempfile


def is_there(path: Path) -> bool:
    """Return True if something has this name, a link that leads nowhere included. Raises OSError.

    `os.path.lexists` returns False if the system refuses to tell.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def matching(folder: Path, pattern: str = "*") -> list[Path]:
    """Return the entries of `folder` whose names match, in order; none if there is no such folder. Raises OSError.

    `Path.glob` takes a folder that cannot be listed for an empty one.
    """
    try:
        return sorted(path for path in folder.iterdir() if fnmatch.fnmatchcase(path.name, pattern))
    except (FileNotFoundError, NotADirectoryError):
        return []


def make_folder(folder: Path) -> None:
    """Make a folder and its parents durably, unless it exists."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with suppress(FileExistsError):
        folder.mkdir()
    sync_folder(folder.parent)


@contextmanager
def durable_file(path: Path, *, replace: bool = True, mode: int = 0o666) -> Iterator[BinaryIO]:
    """Write `path` durably: yield a temporary file, open for reading and writing.

    When the context is left, the file is synced and gets its name; after an exception it is removed.
    replace=False: raises FileExistsError if `path` exists. mode: the permissions, from which the umask removes some. A
    full disk raises NoSpace.
    """

    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{data_folders.TEMPORARY_SUFFIX}")
    try:
        with reporting_no_space(f"writing {path}"), open_file(temporary, "x+b", permissions=mode) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        take_name(temporary, path, replace=replace)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def take_name(temporary: Path, path: Path, *, replace: bool = True) -> None:
    """Give a synced temporary file its name in the same folder, durably.

    replace=False never overwrites: it makes a hard link, or checks and renames if the file system has no links.
    """
    if replace:
        temporary.replace(path)
    else:
        try:
            os.link(temporary, path)
            temporary.unlink()
        except FileExistsError:
            raise
        except OSError:
            if path.exists():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
            temporary.rename(path)
    sync_folder(path.parent)


def write_durably(path: Path, content: bytes, *, replace: bool = True, mode: int = 0o666) -> None:
    """Write `content` to `path` durably; see `durable_file`."""
    with durable_file(path, replace=replace, mode=mode) as file:
        file.write(content)


def rename_durably(source: Path, target: Path) -> None:
    """Rename within a file system and sync both folders."""
    source.rename(target)
    sync_folder(target.parent)
    if source.parent != target.parent:
        sync_folder(source.parent)


def remove_durably(path: Path) -> None:
    """Remove a file or a whole folder, if it exists, and sync its parent folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    if path.parent.is_dir():
        sync_folder(path.parent)


@contextmanager
def removing_on_failure(*paths: Path) -> Iterator[None]:
    """Remove these files and folders, as far as they exist, if the context is left by an exception."""
    try:
        yield
    except BaseException:
        for path in paths:
            remove_durably(path)
        raise


def sync_tree(folder: Path) -> None:
    """fsync `folder` and every file and folder below it. Raises OSError."""

    def refuse(error: OSError) -> None:  # by default, a folder that cannot be listed counts as empty
        raise error

    for parent, _, names in os.walk(folder, topdown=False, onerror=refuse):
        for name in names:
            handle = open_handle(Path(parent) / name)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        sync_folder(Path(parent))


def free_bytes(folder: Path) -> int:
    """Return how many bytes an unprivileged process can still write to the file system of `folder`."""
    file_system = os.statvfs(folder)
    return file_system.f_bavail * file_system.f_frsize


def folder_size(folder: Path) -> int:
    """Return the bytes of the files in a folder, as far as they are there: a database may be compacted meanwhile."""
    size = 0
    with suppress(FileNotFoundError):
        for file in folder.iterdir():
            with suppress(FileNotFoundError):
                size += file.stat().st_size
    return size


class SourceUnreadable(OSError):
    """The file that `copy_range` copies from cannot be read; other errors are the target's."""


def read_at(handle: int, offset: int, count: int) -> bytes:
    """Return `count` bytes from this offset, fewer only at the end of the file. Raises OSError.

    Where a disk fails within the range, `pread` returns the bytes before it without an error: that is not the end.
    """
    content = os.pread(handle, count, offset)
    while len(content) < count and (more := os.pread(handle, count - len(content), offset + len(content))):
        content += more
    return content


def write_at(handle: int, content: bytes | memoryview, offset: int) -> None:
    """Write all of `content` at this offset. Raises OSError."""
    view = memoryview(content)
    done = 0
    while done < len(view):
        done += os.pwrite(handle, view[done : done + IO_BYTES], offset + done)


def clone_range(source: int, source_offset: int, target: int, target_offset: int, length: int) -> int:
    """Let a range of one open file share its whole blocks with another, without copying them.

    Returns how many bytes are shared, from the range's beginning. It is 0 if the offsets are not multiples of
    CLONE_BLOCK, and after any error: copying may work where sharing fails, and otherwise its error says what is wrong.
    """
    length -= length % CLONE_BLOCK
    if not length or source_offset % CLONE_BLOCK or target_offset % CLONE_BLOCK:
        return 0
    try:
        fcntl.ioctl(target, _FICLONERANGE, _CLONE_RANGE.pack(source, source_offset, length, target_offset))
    except OSError:
        return 0
    return length


def copy_range(source: int, source_offset: int, target: int, target_offset: int, length: int) -> int:
    """Copy bytes from one open file to another, inside the kernel where it can; a file system may share them instead.

    Returns how many were copied: fewer than `length` only where the source ends. Raises SourceUnreadable, OSError.
    What the kernel cannot copy is read and written: that may work, and an error then tells the source from the target.
    """
    copy, done = _copy_in_kernel, 0
    while done < length:
        copied = copy(source, source_offset + done, target, target_offset + done, min(IO_BYTES, length - done))
        if not copied:
            if copy is _copy_by_hand:
                break
            copy = _copy_by_hand
        done += copied
    return done


def _copy_in_kernel(source: int, source_offset: int, target: int, target_offset: int, count: int) -> int:
    try:
        return os.copy_file_range(source, target, count, source_offset, target_offset)
    except OSError:
        return 0


def _copy_by_hand(source: int, source_offset: int, target: int, target_offset: int, count: int) -> int:
    content = read_source(source, count, source_offset)
    write_at(target, content, target_offset)
    return len(content)


def read_source(source: int, count: int, offset: int) -> bytes:
    """Read from a file that is copied. Raises SourceUnreadable."""
    try:
        return os.pread(source, count, offset)
    except OSError as error:
        raise SourceUnreadable(error.errno, error.strerror) from error
