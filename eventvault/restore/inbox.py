"""`restore/`: an archive in here is restored when the service starts, then moved to `restore/restored/`.

What is half-copied, damaged or alien stays where it is and is named in `problems`. A file that cannot be moved away
is remembered, so that it is applied once; so are those that were passed over for a newer one.
"""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from eventvault import clock
from eventvault.backups import names
from eventvault.backups.archive import reader
from eventvault.errors import ArchiveError, EventVaultError
from eventvault.files import make_folder, rename_durably, write_durably
from eventvault.settings import Settings

log = logging.getLogger("BackupManager")

RESTORED_NAME = "restored"
MEMORY_NAME = "restore_memory.json"


class Seen(msgspec.Struct, frozen=True):
    """A file in `restore/` that is not to be applied again. changed: its ctime in ns; 0 when that may change."""

    name: str
    size: int
    modified: int
    changed: int


class Inbox:
    """The archives in RESTORE_DIR. problems: {code, message, hint} of each that was left there."""

    def __init__(self, settings: Settings) -> None:
        self.problems: list[dict[str, str]] = []
        self._folder = settings.restore_dir
        self._memory = settings.storage_dir / MEMORY_NAME

    def candidates(self) -> list[Path]:
        """What could be restored, newest first: regular files that end in `.tar.gz` and were not seen before."""
        memory = self._remembered()
        files = [path for path in self._files() if not {_seen(path), _seen(path, moved=True)} & memory]
        return sorted(files, key=_instant, reverse=True)

    def refuse(self, archive: Path, error: EventVaultError) -> None:
        """Leave an archive where it is, and say why."""
        self._problem(
            "restore_refused",
            f"{archive} was not restored and stays where it is: {error}",
            error.hint or "replace it with a good one and restart the service",
        )

    def pass_over(self, archives: list[Path], taken: Path) -> None:
        """Leave the others beside the one that was taken: a later start does not apply them either."""
        for archive in archives:
            self._remember(_seen(archive, moved=True))
            self._problem(
                "restore_left",
                f"{archive} was left, because the newer {taken.name} was restored",
                "remove it, or move it out and in again and restart the service to restore it",
            )

    def put_away(self, archive: Path) -> None:
        """Move a restored archive to `restored/`. What cannot be moved is remembered instead."""
        try:
            seen = _seen(archive)
        except FileNotFoundError:
            return
        self._remember(seen)
        try:
            folder = archive.parent / RESTORED_NAME
            make_folder(folder)
            rename_durably(archive, _free_name(folder / archive.name))
        except OSError as error:
            self._problem(
                "restore_not_moved",
                f"{archive} was restored, but could not be moved to {RESTORED_NAME}/: {error.strerror}",
                "it will not be applied again; move it away by hand",
            )
            return
        self._write(self._remembered() - {seen})

    def _files(self) -> list[Path]:
        try:
            found = list(self._folder.iterdir())
        except OSError as error:
            self._problem(
                "restore_folder", f"{self._folder} cannot be read: {error.strerror}", "make it readable for the service"
            )
            return []
        return [path for path in found if path.name.endswith(".tar.gz") and path.is_file() and not path.is_symlink()]

    def _problem(self, code: str, message: str, hint: str) -> None:
        log.warning("BackupManager: %s", message)
        self.problems.append({"code": code, "message": message, "hint": hint})

    def _remembered(self) -> set[Seen]:
        try:
            return set(msgspec.json.decode(self._memory.read_bytes(), type=list[Seen]))
        except (FileNotFoundError, msgspec.MsgspecError):
            return set()

    def _remember(self, seen: Seen) -> None:
        self._write(self._remembered() | {seen})

    def _write(self, memory: set[Seen]) -> None:
        write_durably(self._memory, msgspec.json.encode(sorted(memory, key=lambda seen: seen.name)))


def _seen(path: Path, *, moved: bool = False) -> Seen:
    found = path.stat()
    return Seen(path.name, found.st_size, found.st_mtime_ns, found.st_ctime_ns if moved else 0)


def _instant(path: Path) -> int:
    """When the archive was made: by its manifest, by its name, or else by the file's time."""
    try:
        return clock.parse(reader.read_manifest(path).created)
    except (ArchiveError, OSError, ValueError):
        named = names.instant_of(path.name)
        return named if named is not None else path.stat().st_mtime_ns // 1000


def _free_name(path: Path) -> Path:
    stem = path.name.removesuffix(".tar.gz")
    number = 2
    while path.exists():
        path = path.with_name(f"{stem}_{number}.tar.gz")
        number += 1
    return path
