"""Examines the three folders: whether they exist, the disk that they are on, and what in them is not a file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from eventvault import data_folders
from eventvault.doctor.facts import FileSystem, Folder
from eventvault.printable import printable
from eventvault.settings import Settings

SETTINGS = ("STORAGE_DIR", "BACKUP_DIR", "RESTORE_DIR")

_MOUNTS = Path("/proc/self/mountinfo")
_ODD = ((stat.S_ISFIFO, "a pipe"), (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"))
_SHOWN = 5


def look_at_folder(settings: Settings, setting: str) -> Folder:
    """Return what the system says of one folder. Never raises OSError."""
    path: Path = getattr(settings, setting.lower())
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return Folder(setting=setting, path=str(path))
    except OSError as error:
        return Folder(setting=setting, path=str(path), exists=True, problem=error.strerror)
    if not stat.S_ISDIR(status.st_mode):
        return Folder(setting=setting, path=str(path), exists=True, problem="it is not a folder")
    problem, odd = None, []
    try:
        odd = _odd_files(path)
    except OSError as error:
        problem = error.strerror
    disk = _disk(path)
    return Folder(
        setting=setting, path=str(path), exists=True, problem=problem, device=status.st_dev,
        writable=os.access(path, os.W_OK | os.X_OK) and not (disk is not None and disk.f_flag & os.ST_RDONLY),
        free=disk and disk.f_bavail * disk.f_frsize, total=disk and disk.f_blocks * disk.f_frsize,
        file_system=file_system_of(path), odd=tuple(odd),
    )  # fmt: skip


def describe_hanging_folder(settings: Settings, setting: str) -> Folder:
    """Return the facts about a folder whose disk does not answer."""
    path = str(getattr(settings, setting.lower()))
    return Folder(setting=setting, path=path, exists=True, problem="its disk does not answer")


def size_of(folder: Path) -> int:
    """Return the bytes of all files below a folder, without those that cannot be read or vanish meanwhile."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += (Path(parent) / name).lstat().st_size
    return total


def file_system_of(path: Path) -> FileSystem | None:
    """Return the file system that a path is on, from the kernel's list of mounts; None if that does not say it."""
    with suppress(OSError):
        resolved = path.resolve()
        mounts = [_parse_mount(line) for line in _MOUNTS.read_text(errors="surrogateescape").splitlines()]
        above = [mount for mount in mounts if mount is not None and resolved.is_relative_to(mount[0])]
        if above:  # of two mounts at the same place, the later one hides the other
            return max(enumerate(above), key=lambda numbered: (len(numbered[1][0].parts), numbered[0]))[1][1]
    return None


def _parse_mount(line: str) -> tuple[Path, FileSystem] | None:
    """Return the mount point and the file system of a line. Source: proc_pid_mountinfo(5)."""
    first, _, last = line.partition(" - ")
    fields, rest = first.split(" "), last.split(" ")
    if len(fields) < 6 or len(rest) < 2:
        return None
    point = fields[4].encode(errors="surrogateescape").decode("unicode_escape", errors="replace")
    return Path(point), FileSystem(rest[0], printable(rest[1]), "ro" in fields[5].split(","))


def _odd_files(folder: Path) -> list[str]:
    """Return the pipes and devices in the folder itself and in that of the database, in words. Raises OSError."""
    odd = list(_odd_in(folder))
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        odd += _odd_in(folder / data_folders.DATABASE)
    return odd[:_SHOWN]


def _odd_in(folder: Path) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                mode = entry.stat(follow_symlinks=False).st_mode
                kind = next((name for is_kind, name in _ODD if is_kind(mode)), None)
                if kind is not None:
                    yield f"{printable(entry.path)} is {kind}"


def _disk(path: Path) -> os.statvfs_result | None:
    with suppress(OSError):
        return os.statvfs(path)
    return None
