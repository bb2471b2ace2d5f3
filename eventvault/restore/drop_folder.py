"""`restore/`: the service restores an archive in here when it starts, then moves it to `restore/restored/`.

An incomplete, damaged or unsupported file stays where it is, and `problems` names it, like a file whose name is not
UTF-8. Notes on disk remember a restored file that cannot be moved, so that it is restored once, and files that were
skipped for a newer one. They recognise a file by its content, whatever its folder and times are, until a start finds it
gone. A store that takes over reads the notes. A second copy of them is in BACKUP_DIR: if STORAGE_DIR is lost, an old
file must not be restored in place of what can be recovered.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import time
from pathlib import Path

import msgspec

from eventvault import clock, data_folders, small_files
from eventvault.archive import reader
from eventvault.backups import names
from eventvault.backups.installation_folder import check_folder
from eventvault.errors import ArchiveAlien, ArchiveIncomplete, ArchiveUnreadable, EventVaultError, NoSpace
from eventvault.files import FileIdentity, folder_mark, is_there, make_folder, mark_folder, rename_durably
from eventvault.printable import is_utf8
from eventvault.problems import Problem
from eventvault.regular_files import open_file
from eventvault.settings import Settings
from eventvault.small_files import NotAFile, SmallFileDamaged

log = logging.getLogger("BackupManager")


REFUSED, SKIPPED, NOT_MOVED = "restore_refused", "restore_left", "restore_not_moved"

_TO_RESTORE = (
    "to restore it, upload it with POST /api/backup/upload and restore it with POST /api/backup/restore, or move it "
    "out, restart the service, move it in again and restart the service"
)
HINTS = {
    SKIPPED: f"remove it; {_TO_RESTORE}",
    NOT_MOVED: f"it is not restored again; move it away by hand; {_TO_RESTORE}",
}

SETTLED_NS = 2 * 10**9
"""A file that changed less than this before it was read may change again without another ctime: clocks are coarse."""


class DroppedFile(msgspec.Struct, frozen=True):
    """A file in `restore/`, recognised by its content. It is JSON on disk.

    modified, changed: mtime and ctime in ns; changed is 0 if it is not compared. EventVault 0.1.0 recognises a file by
    these and its name and size. sha256: of the content; empty if 0.1.0 wrote it, or if the file cannot be read or is no
    archive: a large one would delay the start. unchanged: while the file has this identity, it has this content and
    need not be read.
    """

    name: str
    size: int
    modified: int
    changed: int = 0
    sha256: str = ""
    unchanged: FileIdentity | None = None

    @classmethod
    def read(cls, path: Path) -> DroppedFile:
        """Read the file as it is now, in pieces. Raises OSError."""
        with open_file(path) as file:
            before = os.fstat(file.fileno())
            sha256 = hashlib.file_digest(file, "sha256").hexdigest() if _may_be_archive(path) else ""
            after = os.fstat(file.fileno())
        identity = FileIdentity.of(before, with_ctime=True)
        settled = sha256 and time.time_ns() - before.st_ctime_ns > SETTLED_NS
        unchanged = identity if settled and identity == FileIdentity.of(after, with_ctime=True) else None
        return cls(path.name, before.st_size, before.st_mtime_ns, before.st_ctime_ns, sha256, unchanged)

    @classmethod
    def at(cls, path: Path, *, with_ctime: bool = False) -> DroppedFile:
        """Do `read`; for a file that cannot be read, use only `stat`. Raises FileNotFoundError."""
        try:
            present = cls.read(path)
        except FileNotFoundError:
            raise
        except OSError as error:
            log.warning("%s cannot be read: %s", path, error.strerror)
            status = path.stat()
            return cls(path.name, status.st_size, status.st_mtime_ns)
        return present if with_ctime else msgspec.structs.replace(present, changed=0)

    def is_unchanged(self, path: Path) -> bool:
        """Return True if `path` certainly has this content, without reading it. Raises OSError."""
        return self.unchanged == FileIdentity.of(path.stat(), with_ctime=True)

    def is_same(self, present: DroppedFile) -> bool:
        """Return True if both have the same content; if one was not read, if name, size and times are the same."""
        if self.sha256 and present.sha256:
            return (self.size, self.sha256) == (present.size, present.sha256)
        by_name = (self.name, self.size, self.modified) == (present.name, present.size, present.modified)
        return by_name and self.changed in (0, present.changed)


class Note(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a start did with a file in `restore/`. code: REFUSED; the other codes mean that it is not tried again.

    folder: the id of the RESTORE_DIR that has the file, empty if unknown. Only a start that finds the file gone from
    that folder forgets the note: the disk of RESTORE_DIR may not be mounted.
    """

    file: DroppedFile
    code: str
    message: str
    hint: str
    folder: str = ""

    def renewed(self, path: Path, present: DroppedFile) -> Note:
        """Return this note for the same content, which has another path or other times now."""
        changed = present.changed if self.file.changed else 0
        rest = self.message.partition(f"/{self.file.name} was ")[2]
        file = msgspec.structs.replace(present, changed=changed)
        return Note(file, self.code, f"{path} was {rest}", HINTS[self.code], self.folder)


class DropFolder:
    """The archives in RESTORE_DIR."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._enabled = settings.auto_restore_enabled
        self._folder = settings.restore_dir
        self._memory = settings.storage_dir / data_folders.RESTORE_MEMORY
        self._second = settings.backup_dir / f".{data_folders.RESTORE_MEMORY}"
        self._unreadable: list[Problem] = []
        self._not_utf8: list[Path] = []
        self._hold: Problem | None = None
        """Why nothing is restored: it is not known which files earlier starts dealt with."""
        self._notes = self._remembered()

    @property
    def problems(self) -> list[Problem]:
        """One problem for each file that the last start did not restore and that still exists."""
        if not self._enabled:
            return []
        present = [note for note in self._notes if (self._folder / note.file.name).exists()]
        held = [self._hold] if self._hold else []
        held += [_bad_name(path) for path in self._not_utf8 if path.exists()]
        return held + self._unreadable + [Problem(n.code, n.message, n.hint, n.file.name) for n in present]

    def may_restore(self) -> bool:
        """Return whether a start may restore something of this folder, without reading a file. Raises OSError."""
        if not self._enabled or self._hold is not None:
            return False
        excluded = {(note.file.name, note.file.size) for note in self._notes if note.code != REFUSED}
        files = (path for path in self._folder.iterdir() if _is_archive(path) and is_utf8(path.name))
        return any((path.name, path.stat().st_size) not in excluded for path in files)

    def candidates(self) -> list[Path]:
        """Return the files to restore, newest first: regular `.tar.gz` files, without those that a note excludes.

        A start of the service calls it first: it forgets the notes of files that are gone. A file that cannot be read,
        and that a note may be about, is not a candidate; then nothing is forgotten. If the notes are damaged, there are
        no candidates.
        """
        if self._hold is not None:
            log.error("%s", self._hold.message)
            return []
        candidates, notes = self._examine()
        excluding, self._notes = self._excluding(), notes
        if set(notes) != set(excluding):
            with contextlib.suppress(NoSpace, OSError):
                self._write(notes)
        return candidates

    def peek(self) -> list[Path]:
        """Return the same as `candidates`, but forget and write nothing."""
        if self._hold is not None or not self._enabled or not is_there(self._folder):
            return []
        return self._examine()[0]

    def _excluding(self) -> list[Note]:
        return [note for note in self._notes if note.code != REFUSED]

    def _examine(self) -> tuple[list[Path], list[Note]]:
        """Return the candidates, newest first, and the notes that still count."""
        excluding = self._excluding()
        notes, candidates, folder = [], [], folder_mark(self._folder)
        for path in self._files():
            try:
                note = _note_about(path, excluding)
                if note is None:
                    candidates.append((_instant(path), path.name, path))
                else:
                    notes.append(msgspec.structs.replace(note, folder=folder or note.folder))
                    log.warning("%s", note.message)
            except FileNotFoundError:
                continue
            except OSError as error:
                self._note_unreadable(path, error)
        present = {note.file.name for note in notes}
        missing = [note for note in excluding if note.file.name not in present]
        notes += [note for note in missing if self._unreadable or note.folder not in ("", folder)]
        return [path for _, _, path in sorted(candidates, reverse=True)], notes

    def refuse(self, archive: Path, error: EventVaultError) -> None:
        """Note why an archive was not restored; it stays where it is."""
        with contextlib.suppress(NoSpace, OSError):
            self._note(
                Note(
                    _unread(archive),
                    REFUSED,
                    f"{archive} was not restored and stays where it is: {error}",
                    _remedy(error),
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
                        HINTS[SKIPPED],
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
            present = arrived if arrived and arrived.is_unchanged(archive) else DroppedFile.at(archive)
        except FileNotFoundError:  # it was moved, but the process was killed before it could forget the note
            self._forget(archive.name)
            return
        if arrived is not None and not arrived.is_same(present):
            return
        message = f"{archive} was restored, but could not be moved to {data_folders.RESTORED}/"
        self._note(Note(present, NOT_MOVED, message, HINTS[NOT_MOVED]), warn=False)
        try:
            folder = archive.parent / data_folders.RESTORED
            make_folder(folder)
            rename_durably(archive, _free_name(folder / archive.name))
        except OSError as error:
            log.warning("%s: %s", message, error.strerror)
            return
        self._forget(archive.name)

    def _forget(self, name: str) -> None:
        """Forget that a file of this name could not be moved. Raises NoSpace or OSError if that could not be noted."""
        notes = [note for note in self._notes if (note.file.name, note.code) != (name, NOT_MOVED)]
        if notes != self._notes:
            self._write(notes)

    def _files(self) -> list[Path]:
        self._unreadable = []
        try:
            paths = list(self._folder.iterdir())
        except OSError as error:
            self._note_unreadable(self._folder, error)
            return []
        archives = [path for path in paths if _is_archive(path)]
        self._not_utf8 = [path for path in archives if not is_utf8(path.name)]
        for path in self._not_utf8:
            log.warning("%s", _bad_name(path).message)
        return [path for path in archives if is_utf8(path.name)]

    def _note_unreadable(self, path: Path, error: OSError) -> None:
        message = f"{path} cannot be read: {error.strerror}"
        log.warning("%s", message)
        hint = "make it readable for the service, then restart it"
        code = "restore_folder" if path == self._folder else REFUSED
        self._unreadable.append(Problem(code, message, hint, path.name))

    def _note(self, note: Note, *, warn: bool = True) -> None:
        """Replace the note of that file. Raises NoSpace or OSError if it could not be written."""
        if warn:
            log.warning("%s", note.message)
        others = [other for other in self._notes if other.file.name != note.file.name]
        self._write([*others, msgspec.structs.replace(note, folder=mark_folder(self._folder))])

    def _write(self, notes: list[Note]) -> None:
        self._notes = notes
        if self._hold is not None:  # the damaged file shows that notes are missing
            return
        try:
            check_folder(self._settings)
            small_files.write_list(self._second, notes)
        except (EventVaultError, OSError) as error:  # BACKUP_DIR may be missing; the service must start nevertheless
            log.warning("the second copy of the notes about %s could not be written: %s", self._folder, error)
        small_files.write_list(self._memory, notes)

    def _remembered(self) -> list[Note]:
        """Return the notes in STORAGE_DIR, or else the copy in BACKUP_DIR. Restore nothing if a file may hide notes."""
        try:
            return small_files.read_list(self._memory, Note)
        except FileNotFoundError:
            return self._second_notes(None)
        except SmallFileDamaged as error:
            return self._second_notes(error)
        except OSError as error:
            self._hold_restores(f"{self._memory} cannot be read: {error}", "make it readable and restart the service")
            return []

    def _second_notes(self, damage: SmallFileDamaged | None) -> list[Note]:
        """Return the notes in BACKUP_DIR. damage: of the first file, which is quarantined if this copy is good."""
        try:
            notes = small_files.read_list(self._second, Note)
        except (FileNotFoundError, NotADirectoryError):
            notes = None
        except SmallFileDamaged as error:
            notes = None
            if not isinstance(error, NotAFile) or (self._settings.backup_dir / data_folders.JOURNAL).exists():
                damage = damage or error  # else this installation is new, and something has that name
        except OSError as error:
            self._hold_restores(f"{self._second} cannot be read: {error}", "make it readable and restart the service")
            return []
        if damage is None:
            return notes or []
        if notes is None:
            self._hold_restores(
                f"it is not known which files in {self._folder} were restored or skipped before: {damage}",
                f"move what was restored before out of {self._folder}, then remove the damaged file and restart the "
                "service",
            )
            return []
        small_files.quarantine_or_log(self._memory, damage)
        return notes

    def _hold_restores(self, reason: str, hint: str) -> None:
        message = f"nothing in {self._folder} is restored: {reason}"
        self._hold = Problem("restore_memory_damaged", message, hint)


def _note_about(path: Path, notes: list[Note]) -> Note | None:
    """Return the note about the content of `path`, renewed; one with the same name first. Raises OSError.

    Reads the file only if it has the size of a noted one and may have changed.
    """
    size = path.stat().st_size
    candidates = [note for note in notes if note.file.size == size]
    candidates.sort(key=lambda note: note.file.name != path.name)
    for note in candidates:
        if note.file.is_unchanged(path) and note.file.name == path.name:
            return note.renewed(path, note.file)
    if not candidates:
        return None
    present = DroppedFile.read(path)
    return next((note.renewed(path, present) for note in candidates if note.file.is_same(present)), None)


def _may_be_archive(path: Path) -> bool:
    """Return False if the two ends of the file show that it is not an archive."""
    try:
        reader.kind(path)
    except (ArchiveAlien, ArchiveIncomplete):
        return False
    except EventVaultError:
        pass
    return True


def _remedy(error: EventVaultError) -> str:
    if isinstance(error, ArchiveUnreadable):
        return "make it readable for the service, then restart it"
    return error.hint or "replace it with a good one and restart the service"


def _bad_name(path: Path) -> Problem:
    message = f"{path} was not restored and stays where it is: its name is not UTF-8"
    return Problem(REFUSED, message, "rename it and restart the service", path.name)


def _unread(path: Path) -> DroppedFile:
    status = path.stat()
    return DroppedFile(path.name, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _is_archive(path: Path) -> bool:
    """Return True for a regular file that ends in `.tar.gz`; hidden ones are of copying programs and macOS."""
    return names.looks_like_archive(path.name) and path.is_file() and not path.is_symlink()


def _instant(path: Path) -> int:
    """Return when the archive was made, in microseconds: by its manifest, its name, or else the file's time."""
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
