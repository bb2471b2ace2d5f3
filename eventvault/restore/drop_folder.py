"""`restore/`: the service restores an archive in here when it starts, then moves it to `restore/restored/`.

An incomplete, damaged or unsupported file stays where it is, and `problems` names it. Notes on disk remember a file
that cannot be moved, so that it is restored once, and those that were skipped for a newer one. A store that takes over
reads the notes. A second copy of them is in BACKUP_DIR: if STORAGE_DIR is lost, an old file must not be restored in
place of what can be recovered.
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


REFUSED, SKIPPED, NOT_MOVED = "restore_refused", "restore_left", "restore_not_moved"


class DroppedFile(msgspec.Struct, frozen=True):
    """A file in `restore/`: its name, and its `FileIdentity` without the inode. It is JSON on disk."""

    name: str
    size: int
    modified: int
    changed: int = 0

    @classmethod
    def at(cls, path: Path, *, with_ctime: bool = False) -> DroppedFile:
        """The file as it is now. with_ctime: a move away and back makes it another one. Raises FileNotFoundError."""
        identity = FileIdentity.of(path.stat(), with_inode=False, with_ctime=with_ctime)
        return cls(path.name, identity.size, identity.modified, identity.changed)


class Note(msgspec.Struct, frozen=True):
    """What a start did with a file in `restore/`. code: REFUSED; the other codes mean that it is not tried again."""

    file: DroppedFile
    code: str
    message: str
    hint: str


class DropFolder:
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
        """{code, message, hint} of each file that the last start did not restore and that is still there."""
        if not self._enabled:
            return []
        present = [note for note in self._notes if (self._folder / note.file.name).exists()]
        return self._unreadable + [{"code": n.code, "message": n.message, "hint": n.hint} for n in present]

    def candidates(self) -> list[Path]:
        """The files to restore, newest first: regular ones that end in `.tar.gz`, without those that a note excludes.

        A start of the service calls it first: it forgets the notes of all other files.
        """
        excluding = {note.file: note for note in self._notes if note.code != REFUSED}
        notes, candidates = [], []
        for path in self._files():
            with contextlib.suppress(FileNotFoundError):
                note = excluding.get(DroppedFile.at(path)) or excluding.get(DroppedFile.at(path, with_ctime=True))
                if note is None:
                    candidates.append((_instant(path), path.name, path))
                else:
                    notes.append(note)
                    log.warning("%s", note.message)
        self._notes = notes
        return [path for _, _, path in sorted(candidates, reverse=True)]

    def refuse(self, archive: Path, error: EventVaultError) -> None:
        """Note why an archive was not restored; it stays where it is."""
        with contextlib.suppress(NoSpace, OSError):
            self._note(
                Note(
                    DroppedFile.at(archive, with_ctime=True),
                    REFUSED,
                    f"{archive} was not restored and stays where it is: {error}",
                    error.hint or "replace it with a good one and restart the service",
                )
            )

    def mark_skipped(self, archives: list[Path], restored: Path) -> None:
        """Note that `archives` were skipped because `restored` is newer: a later start does not restore them either.

        Raises NoSpace or OSError if that could not be noted.
        """
        for archive in archives:
            with contextlib.suppress(FileNotFoundError):
                self._note(
                    Note(
                        DroppedFile.at(archive, with_ctime=True),
                        SKIPPED,
                        f"{archive} was skipped, because the newer {restored.name} was restored",
                        "remove it, or move it out and in again and restart the service to restore it",
                    )
                )

    def unmark_skipped(self, archives: list[Path]) -> None:
        """Forget what `mark_skipped` noted: the newer archive could not be restored."""
        names_of = {archive.name for archive in archives}
        with contextlib.suppress(NoSpace, OSError):
            self._write([note for note in self._notes if note.file.name not in names_of])

    def move_to_restored(self, archive: Path, arrived: DroppedFile | None = None) -> None:
        """Move a restored archive to `restored/`; if it cannot be moved, a note remembers it.

        arrived: the identity of the file that was restored. Another file of that name waits for the next start.
        """
        try:
            present = DroppedFile.at(archive)
        except FileNotFoundError:
            return
        if arrived is not None and present != arrived:
            return
        message = f"{archive} was restored, but could not be moved to {data_folders.RESTORED}/"
        self._note(Note(present, NOT_MOVED, message, "it is not restored again; move it away by hand"), warn=False)
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
            paths = list(self._folder.iterdir())
        except OSError as error:
            message = f"{self._folder} cannot be read: {error.strerror}"
            log.warning("%s", message)
            hint = "make it readable for the service, then restart it"
            self._unreadable = [{"code": "restore_folder", "message": message, "hint": hint}]
            return []
        return [path for path in paths if _is_archive(path)]

    def _note(self, note: Note, *, warn: bool = True) -> None:
        """Replace the note of that file. Raises NoSpace or OSError if it could not be written."""
        if warn:
            log.warning("%s", note.message)
        self._write([*(other for other in self._notes if other.file.name != note.file.name), note])

    def _write(self, notes: list[Note]) -> None:
        self._notes = notes
        content = msgspec.json.encode(notes)
        try:
            write_durably(self._second, content)
        except (NoSpace, OSError) as error:  # BACKUP_DIR may be missing, and the service must start nevertheless
            log.warning("the notes about %s are in one place only: %s", self._folder, error)
        write_durably(self._memory, content)

    def _remembered(self) -> list[Note]:
        for place in (self._memory, self._second):
            with contextlib.suppress(OSError, msgspec.MsgspecError):
                return msgspec.json.decode(place.read_bytes(), type=list[Note])
        return []


def _is_archive(path: Path) -> bool:
    """True for a regular file that ends in `.tar.gz`; copying programs and macOS create hidden ones."""
    return names.looks_like_archive(path.name) and path.is_file() and not path.is_symlink()


def _instant(path: Path) -> int:
    """When the archive was made, in microseconds: by its manifest, its name, or else the file's time."""
    try:
        return clock.parse(reader.read_manifest(path).created)
    except (EventVaultError, OSError, ValueError):
        instant = names.instant_of(path.name)
        return instant if instant is not None else path.stat().st_mtime_ns // 1000


def _free_name(path: Path) -> Path:
    stem = path.name.removesuffix(names.SUFFIX)
    number = 2
    free = path
    while free.exists() or free.is_symlink():
        free = path.with_name(f"{stem}_{number}{names.SUFFIX}")
        number += 1
    return free
