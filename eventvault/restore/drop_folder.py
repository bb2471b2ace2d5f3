"""`restore/`: an archive in here is restored when the service starts, then moved to `restore/restored/`.

What is half-copied, damaged or alien stays where it is and is named in `problems`. A file that cannot be moved away
is remembered, so that it is applied once; so are those that were passed over for a newer one. What was found is kept
on disk: a store that takes over says the same of the files that are still there. A second copy lies in BACKUP_DIR: when
STORAGE_DIR is lost, an old file must not be restored in the place of what can be recovered.
"""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

import msgspec

from eventvault import clock, data_folders
from eventvault.archive import reader
from eventvault.backups import names
from eventvault.errors import EventVaultError, NoSpace
from eventvault.files import FileIdentity, make_folder, rename_durably, write_durably
from eventvault.settings import Settings

log = logging.getLogger("BackupManager")


REFUSED, LEFT, NOT_MOVED = "restore_refused", "restore_left", "restore_not_moved"


class DroppedFile(msgspec.Struct, frozen=True):
    """Which file in `restore/` it is: the `FileIdentity` without the inode, and the name. It is JSON on disk."""

    name: str
    size: int
    modified: int
    changed: int = 0

    @classmethod
    def at(cls, path: Path, *, with_ctime: bool = False) -> DroppedFile:
        """Return the file as it is now. with_ctime: a move away and back makes it another. Raises FileNotFoundError."""
        identity = FileIdentity.of(path.stat(), with_inode=False, with_ctime=with_ctime)
        return cls(path.name, identity.size, identity.modified, identity.changed)


class Note(msgspec.Struct, frozen=True):
    """What a start of the service did with a file in `restore/`. code: REFUSED, or one that is not applied again."""

    file: DroppedFile
    code: str
    message: str
    hint: str


class Inbox:
    """The archives in RESTORE_DIR."""

    def __init__(self, settings: Settings) -> None:
        self._enabled = settings.auto_restore_enabled
        self._folder = settings.restore_dir
        self._memory = settings.storage_dir / data_folders.RESTORE_MEMORY
        self._second = settings.backup_dir / f".{data_folders.RESTORE_MEMORY}"
        self._notes = self._remembered()
        self._unreadable: list[dict[str, str]] = []

    @property
    def problems(self) -> list[dict[str, str]]:
        """{code, message, hint} of each file that the newest start of the service left there, as long as it is."""
        if not self._enabled:
            return []
        there = [note for note in self._notes if (self._folder / note.file.name).exists()]
        return self._unreadable + [{"code": n.code, "message": n.message, "hint": n.hint} for n in there]

    def candidates(self) -> list[Path]:
        """What could be restored, newest first: regular files that end in `.tar.gz` and are not to be left alone.

        A start of the service begins with it: what was said of files that are looked at anew is forgotten.
        """
        known = {note.file: note for note in self._notes if note.code != REFUSED}
        kept, found = [], []
        for path in self._files():
            with contextlib.suppress(FileNotFoundError):
                note = known.get(DroppedFile.at(path)) or known.get(DroppedFile.at(path, with_ctime=True))
                if note is None:
                    found.append((_instant(path), path.name, path))
                else:
                    kept.append(note)
                    log.warning("%s", note.message)
        self._notes = kept
        return [path for _, _, path in sorted(found, reverse=True)]

    def refuse(self, archive: Path, error: EventVaultError) -> None:
        """Leave an archive where it is, and say why."""
        with contextlib.suppress(NoSpace, OSError):
            self._note(
                Note(
                    DroppedFile.at(archive, with_ctime=True),
                    REFUSED,
                    f"{archive} was not restored and stays where it is: {error}",
                    error.hint or "replace it with a good one and restart the service",
                )
            )

    def mark_skipped(self, archives: list[Path], taken: Path) -> None:
        """Leave the others beside the one that was taken: a later start does not apply them either.

        Raises NoSpace or OSError where that could not be noted.
        """
        for archive in archives:
            with contextlib.suppress(FileNotFoundError):
                self._note(
                    Note(
                        DroppedFile.at(archive, with_ctime=True),
                        LEFT,
                        f"{archive} was left, because the newer {taken.name} was restored",
                        "remove it, or move it out and in again and restart the service to restore it",
                    )
                )

    def unmark_skipped(self, archives: list[Path]) -> None:
        """What `mark_skipped` noted of them does not hold: the other one could not be applied."""
        names_of = {archive.name for archive in archives}
        with contextlib.suppress(NoSpace, OSError):
            self._write([note for note in self._notes if note.file.name not in names_of])

    def move_to_restored(self, archive: Path, arrived: DroppedFile | None = None) -> None:
        """Move a restored archive to `restored/`. What cannot be moved is remembered instead.

        arrived: the file that was restored; another one that took its name since is left to the next start.
        """
        try:
            present = DroppedFile.at(archive)
        except FileNotFoundError:
            return
        if arrived is not None and present != arrived:
            return
        message = f"{archive} was restored, but could not be moved to {data_folders.RESTORED}/"
        self._note(Note(present, NOT_MOVED, message, "it is not applied again; move it away by hand"), say=False)
        try:
            folder = archive.parent / data_folders.RESTORED
            make_folder(folder)
            rename_durably(archive, _free_name(folder / archive.name))
        except OSError as error:
            log.warning("%s: %s", message, error.strerror)
            return
        self._write([note for note in self._notes if note.file != present])

    def _files(self) -> list[Path]:
        self._unreadable = []
        try:
            found = list(self._folder.iterdir())
        except OSError as error:
            message = f"{self._folder} cannot be read: {error.strerror}"
            log.warning("%s", message)
            hint = "make it readable for the service, then restart it"
            self._unreadable = [{"code": "restore_folder", "message": message, "hint": hint}]
            return []
        return [path for path in found if _is_archive(path)]

    def _note(self, note: Note, *, say: bool = True) -> None:
        """Show it from now on, and keep it. Raises NoSpace or OSError where it could not be kept."""
        if say:
            log.warning("%s", note.message)
        self._write([*(other for other in self._notes if other.file.name != note.file.name), note])

    def _write(self, notes: list[Note]) -> None:
        self._notes = notes
        content = msgspec.json.encode(notes)
        try:
            write_durably(self._second, content)
        except (NoSpace, OSError) as error:  # backups may be away; this must not keep the service from starting
            log.warning("what was done with %s is kept in one place only: %s", self._folder, error)
        write_durably(self._memory, content)

    def _remembered(self) -> list[Note]:
        for place in (self._memory, self._second):
            with contextlib.suppress(OSError, msgspec.MsgspecError):
                return msgspec.json.decode(place.read_bytes(), type=list[Note])
        return []


def _is_archive(path: Path) -> bool:
    """A regular file that ends in `.tar.gz`; hidden ones are what copying programs and macOS leave."""
    return names.looks_like_archive(path.name) and path.is_file() and not path.is_symlink()


def _instant(path: Path) -> int:
    """When the archive was made: by its manifest, by its name, or else by the file's time."""
    try:
        return clock.parse(reader.read_manifest(path).created)
    except (EventVaultError, OSError, ValueError):
        named = names.instant_of(path.name)
        return named if named is not None else path.stat().st_mtime_ns // 1000


def _free_name(path: Path) -> Path:
    stem = path.name.removesuffix(names.SUFFIX)
    number = 2
    free = path
    while free.exists() or free.is_symlink():
        free = path.with_name(f"{stem}_{number}{names.SUFFIX}")
        number += 1
    return free
