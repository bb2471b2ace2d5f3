"""Which archives there are: the folder is the truth, the catalogue adds what the folder does not show.

That is: origin, pin, when an archive was last found good, its SHA-256, what is wrong with it, and its manifest's
summary. It belongs to the very file: where that was replaced or changed, only the pin stays, and the origin as long as
the file does not say another itself. What is referenced is
written before its reference and removed after it. One process, the store, keeps the catalogue.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from eventvault import clock, data_folders
from eventvault.archive import reader
from eventvault.archive.manifest import Manifest
from eventvault.backups import catalogue_file, names
from eventvault.backups.catalogue_file import ArchiveRecord, Summary
from eventvault.backups.entry import BackupEntry
from eventvault.clock import Clock
from eventvault.errors import (
    ArchiveAlien,
    ArchiveError,
    ArchiveIncomplete,
    BackupNotFound,
    BackupsUnavailable,
    NoSpace,
)
from eventvault.files import FileIdentity, sync_folder

Records = dict[str, ArchiveRecord]


class Catalogue:
    """The archives in `backup_dir`. Safe to use from many threads.

    installation: the id of this installation, as it stands in the manifests of its archives. read_manifest, kind: how
    to look into an archive (`eventvault.archive.reader`). Every method may raise BackupsUnavailable.
    """

    def __init__(
        self,
        backup_dir: Path,
        installation: str,
        read_manifest: Callable[[Path], Manifest] = reader.read_manifest,
        kind: Callable[[Path], Literal["own", "foreign"]] = reader.kind,
        *,
        now: Clock = clock.now,
    ) -> None:
        self.installation = installation
        self._folder = backup_dir
        self._read_manifest = read_manifest
        self._kind = kind
        self._now = now
        self._records: Records = {}
        self._loaded: FileIdentity | None = None
        """The catalogue's file that `_records` were read from or written to; None: there is none yet."""
        self._unsaved = False
        self._lock = threading.Lock()
        """Held for moments only: lists wait for it."""
        self._saving = threading.Lock()
        """Held while the file is written; taken before `_lock`, never after it."""

    def entries(self) -> list[BackupEntry]:
        """All archives, newest first: regular files that end in `.tar.gz`, hidden ones excepted."""
        known = self._known()
        found = self._scan()
        looks = ((name, self._look(name, identity, known.get(name))) for name, identity in found.items())
        records = {name: record for name, record in looks if record is not None}
        self._remember(known, records)
        entries = [self._entry(name, record) for name, record in records.items()]
        return sorted(entries, key=lambda entry: (entry.created, entry.sequence or 0, entry.name), reverse=True)

    def unattributed(self) -> list[BackupEntry]:
        """The archives of EventVault that cannot be read and of which nothing is known: they may be ours."""
        known = self._known()
        unknown = [e for e in self.entries() if e.problem and (e.name not in known or known[e.name].summary is None)]
        return [entry for entry in unknown if entry.origin == "found" and self._is_marked(entry.name)]

    def entry(self, name: str) -> BackupEntry:
        """One archive. Raises BackupNotFound, or InvalidInput for what is no archive's name."""
        return self._entry(name, self._record(name))

    def identity(self, name: str) -> FileIdentity:
        """Which file has this name now; what is found in it is entered for this one. Raises BackupNotFound."""
        return self._record(name).identity

    def record_created(self, name: str, *, sha256: str, verified: int) -> BackupEntry:
        """Enter an archive that was made here and read back. verified: when, in microseconds."""
        return self._change(name, origin="created", sha256=sha256, verified=verified, problem=None, probe_failed=False)

    def record_uploaded(self, name: str, *, sha256: str | None = None, verified: int | None = None) -> BackupEntry:
        """Enter an archive that was uploaded and checked, by default just now."""
        verified = self._now() if verified is None else verified
        return self._change(name, origin="uploaded", sha256=sha256, verified=verified, problem=None, probe_failed=False)

    def record_verified(
        self,
        name: str,
        *,
        verified: int,
        sha256: str | None = None,
        records_verified: bool = False,
        read: FileIdentity | None = None,
    ) -> BackupEntry:
        """An archive was read to its end and is good. sha256: of the whole file, if it was computed.

        proven: every record was read, from these bytes. read: the file that was read; raises ArchiveIncomplete where
        another one has its name by now, of which nothing is known then.
        """
        more = {} if sha256 is None else {"sha256": sha256}
        return self._change(
            name, read, verified=verified, problem=None, probe_failed=False, records_verified=records_verified, **more
        )

    def record_problem(self, name: str, problem: str, *, read: FileIdentity | None = None) -> BackupEntry:
        """An archive is damaged: it counts as good no longer, until it is verified. read: as for `record_verified`."""
        return self._change(name, read, problem=problem, verified=None, records_verified=False, probe_failed=False)

    def set_pinned(self, name: str, *, pinned: bool) -> BackupEntry:
        """A pinned archive is never removed by rotation."""
        return self._change(name, pinned=pinned)

    def remove(self, name: str, check: Callable[[list[BackupEntry]], None] = lambda _entries: None) -> None:
        """Remove the archive and what is known of it. The caller holds `exclusive_lock`. Raises BackupNotFound.

        check: is given all archives, and raises where this one must stay. Nothing is pinned, marked or removed between
        that and the removal.
        """
        with self._saving:
            record = self._record(name)
            check(self.entries())
            self._store(name, None)
            try:
                # At once, and not bit by bit, though posts wait 20 ms for 200 MB that become free on ext4 with
                # `discard`: whoever copies it elsewhere without a lock, as rsync does, has it whole to the end.
                (self._folder / name).unlink(missing_ok=True)
                sync_folder(self._folder)
            except OSError as error:
                self._store(name, record)
                raise self._unavailable(f"removing {name}", error) from error

    def _change(self, name: str, read: FileIdentity | None = None, **change: object) -> BackupEntry:
        with self._saving:
            present = self._record(name)
            if read is not None and present.identity != read:
                raise ArchiveIncomplete(
                    f"{name} was replaced or changed while it was read", hint="check it again once its copy is complete"
                )
            record = msgspec.structs.replace(present, **change)
            self._store(name, record)
        return self._entry(name, record)

    def _store(self, name: str, record: ArchiveRecord | None) -> None:
        """Write the catalogue with this one record changed; what is shown is on disk. `_saving` is held."""
        self._save(_with(self._known(), name, record))
        with self._lock:
            self._records = _with(self._records, name, record)

    def _save(self, records: Records) -> None:
        try:
            catalogue_file.save(self._folder, records)
        except OSError as error:
            raise self._unavailable(f"writing {self._folder / data_folders.CATALOGUE}", error) from error
        with self._lock:
            self._loaded = FileIdentity.at(self._folder / data_folders.CATALOGUE)

    def _known(self) -> Records:
        """What is remembered; read again where the file is another one. Never changed in place."""
        path = self._folder / data_folders.CATALOGUE
        with self._lock:
            try:
                found = FileIdentity.at(path)
                if found != self._loaded:
                    loaded = catalogue_file.load(self._folder)
                    self._records = {name: loaded[name] for name in loaded if (self._folder / name).exists()}
                    self._loaded = FileIdentity.at(path)
            except OSError as error:
                raise self._unavailable(f"reading {path}", error) from error
            return self._records

    def _remember(self, known: Records, seen: Records) -> None:
        """Keep what was learnt from the folder. It can be learnt again, so failing to write it is no failure.

        A problem that is found by a look is not kept: a file that is being copied in becomes whole, a disk answers
        again.
        """
        learnt = {name: new for name, new in seen.items() if new is not known.get(name) and not new.probe_failed}
        with self._lock:
            current = {name: new for name, new in learnt.items() if self._records.get(name) is known.get(name)}
            self._records = {**self._records, **current}
            self._unsaved = self._unsaved or bool(current)
        if self._unsaved and self._saving.acquire(blocking=False):
            try:
                self._save(self._known())
                self._unsaved = False
            except (BackupsUnavailable, NoSpace):
                pass
            finally:
                self._saving.release()

    def _scan(self) -> dict[str, FileIdentity]:
        found = {}
        try:
            with os.scandir(self._folder) as files:
                for file in files:
                    if names.is_name(file.name):
                        identity = FileIdentity.at(self._folder / file.name)
                        if identity is not None:
                            found[file.name] = identity
        except OSError as error:
            raise self._unavailable("listing the backups", error) from error
        return found

    def _record(self, name: str) -> ArchiveRecord:
        names.check_name(name)
        known = self._known().get(name)
        try:
            identity = FileIdentity.at(self._folder / name)
        except OSError as error:
            raise self._unavailable(f"looking at {name}", error) from error
        record = None if identity is None else self._look(name, identity, known)
        if record is None:
            if not self._folder.is_dir():
                missing = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
                raise self._unavailable(f"looking for {name}", missing)
            raise BackupNotFound(f"there is no backup {name}", hint="GET /api/backup/list shows which there are")
        return record

    def _look(self, name: str, identity: FileIdentity, known: ArchiveRecord | None) -> ArchiveRecord | None:
        """The record of the file as it is now; None where it has just vanished."""
        if known is not None and known.identity == identity and not known.probe_failed:
            return known
        pinned = known is not None and known.pinned
        try:
            summary = Summary.of(self._read_manifest(self._folder / name))
        except BackupNotFound:
            return None
        except (ArchiveError, OSError, ValueError) as error:
            problem = None if self._is_foreign(name, error) else str(error)
            origin = known.origin if known is not None and problem is not None else "found"
            return ArchiveRecord(
                identity, origin=origin, pinned=pinned, problem=problem, probe_failed=problem is not None
            )
        ours = summary.installation == self.installation and summary.name == name
        return ArchiveRecord(identity, summary, origin="created" if ours else "found", pinned=pinned)

    def _is_foreign(self, name: str, error: Exception) -> bool:
        """Whether it is a tar.gz of another program, which has no manifest and needs none."""
        try:
            return isinstance(error, ArchiveAlien) and self._kind(self._folder / name) == "foreign"
        except (ArchiveError, BackupNotFound, OSError):
            return False

    def _is_marked(self, name: str) -> bool:
        try:
            return reader.begins_as_own(self._folder / name)
        except (ArchiveError, BackupNotFound):
            return False

    def _entry(self, name: str, record: ArchiveRecord) -> BackupEntry:
        summary = record.summary
        named = names.instant_of(name)
        return BackupEntry(
            name=name,
            path=str(self._folder / name),
            size=record.identity.size,
            created=summary.created if summary else record.identity.modified // 1000 if named is None else named,
            label=summary.label if summary else None,
            events=summary.events if summary else None,
            sequence=summary.sequence if summary else None,
            generation=summary.generation if summary else None,
            verified=record.verified,
            pinned=record.pinned,
            sha256=record.sha256,
            records_verified=record.records_verified,
            origin=record.origin,
            problem=record.problem,
        )

    def _unavailable(self, doing: str, error: OSError) -> BackupsUnavailable:
        return BackupsUnavailable(
            f"{doing} failed: {error.strerror or error}: {error.filename or self._folder}",
            hint=f"see to it that {self._folder} is there and that the service may read and write it",
        )


def _with(records: Records, name: str, record: ArchiveRecord | None) -> Records:
    others = {other: value for other, value in records.items() if other != name}
    return others if record is None else {**others, name: record}
