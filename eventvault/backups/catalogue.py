"""The catalogue: the archives in BACKUP_DIR, and what is known about each besides what the folder shows.

The folder decides which archives exist. The catalogue adds origin, pin, time of the last verification, digest,
problem, and the manifest's summary; `annotations` has the reason and the end of a pin. A record is valid for one
`FileIdentity`. If the file is replaced or changed, its pin stays, and so does the checksum with which it was made here;
the origin stays only if the new file cannot be read. An archive is written before its record. A record is removed
before its archive. Only the store's process writes the catalogue.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypedDict, Unpack

import msgspec

from eventvault import clock, data_folders
from eventvault.archive import reader
from eventvault.archive.manifest import Manifest
from eventvault.archive.proof import Proof, Trust
from eventvault.archive.seal import SealedRoot
from eventvault.backups import catalogue_file, names
from eventvault.backups.annotations import Annotations
from eventvault.backups.catalogue_file import ArchiveRecord, Summary
from eventvault.backups.entry import BackupEntry, Check, Pin, Trigger
from eventvault.backups.order import newest_first
from eventvault.backups.shared_runs import DiskUse, SharedRuns
from eventvault.clock import Clock
from eventvault.damage import as_answer
from eventvault.errors import (
    ArchiveAlien,
    ArchiveError,
    ArchiveIncomplete,
    ArchiveUnreadable,
    BackupNotFound,
    BackupsUnavailable,
    EventVaultError,
)
from eventvault.files import FileIdentity, sync_folder
from eventvault.kafka.replayable import ArchivedOffsets
from eventvault.progress import Turn, running

log = logging.getLogger("BackupManager")

Records = dict[str, ArchiveRecord]
CATALOGUE = "catalogue"
MANY_NEW = 100
"""If more archives must be read, one thread alone reads them."""


class _Making(TypedDict, total=False):
    """How an archive was made: fields of `ArchiveRecord`."""

    trigger: Trigger
    duration: int


class _Listed(NamedTuple):
    record: ArchiveRecord
    use: DiskUse
    entry: BackupEntry


class _List(NamedTuple):
    """The newest list of all archives, and what it was made from."""

    proof: Proof | None
    entries: Mapping[str, _Listed] = MappingProxyType({})
    generations: Sequence[str] = ()
    ordered: Sequence[BackupEntry] = ()


class Catalogue:
    """The archives in `backup_dir`. Safe to use from many threads.

    installation: the id of this installation, as the manifests of its archives have it. read_manifest, read_seal,
    kind: how to read an archive (`eventvault.archive.reader`). key: returns the key of this installation; if it cannot
    be read, no seal proves anything meanwhile. trust: returns what else an operator trusts. generations: returns
    those of the open database, oldest first. check_folder: raises BackupsChanged if nothing may be written to
    `backup_dir`. Every method may raise BackupsUnavailable, or what the system says (`as_answer`).
    """

    def __init__(
        self,
        backup_dir: Path,
        installation: str,
        read_manifest: Callable[[Path], Manifest] = reader.read_manifest,
        kind: Callable[[Path], Literal["own", "foreign"]] = reader.kind,
        *,
        read_seal: Callable[[Path], SealedRoot | None] = reader.read_seal,
        key: Callable[[], bytes | None] = lambda: None,
        generations: Callable[[], Sequence[str]] = tuple,
        trust: Callable[[], Trust] = Trust,
        check_folder: Callable[[], None] = lambda: None,
        now: Clock = clock.now,
    ) -> None:
        self.installation = installation
        self._folder = backup_dir
        self._read_manifest = read_manifest
        self._read_seal = read_seal
        self._kind = kind
        self._key = key
        self._generations = generations
        self._trust = trust
        self.check_folder = check_folder
        self._now = now
        self.shared_runs = SharedRuns(backup_dir, now, check_folder)
        self.annotations = Annotations(backup_dir)
        self._settled: object = None
        """The identities that the files of catalogue and annotations had when both named the same pins."""
        self.refused_names: list[str] = []
        """Files with an archive's suffix and a name that no archive may have, at the newest reading of the folder."""
        self._records: Records = {}
        self._loaded: FileIdentity | None = None
        """The identity of the catalogue file that matches `_records`; None if there is none yet."""
        self._unsaved = False
        self._is_reread = False
        self._list = _List(None)
        self._lock = threading.Lock()
        """Held only for moments, as lists wait for it."""
        self._probing = Turn("reading of new archives")
        """Held while more than MANY_NEW of them are read, so that only one thread reads them."""
        self._saving = Turn("catalogue")
        """Held while the file is written. Acquired before `_lock`, never after it."""

    def entries(self) -> list[BackupEntry]:
        """Return all archives, newest first: regular files that end in `.tar.gz`, except hidden ones."""
        with running(CATALOGUE, f"reads the archives in {self._folder}"):
            return self._entries()

    def _entries(self) -> list[BackupEntry]:
        files = self._scan()
        self._refresh_annotations()
        if self._count_new(files) > MANY_NEW:
            with self._probing.held():
                records = self._probe_all(files)
        else:
            records = self._probe_all(files)
        self._settle_pins()
        self._refresh_shared_runs(records)
        return self._make_list(records, self.proof(), self._generations())

    def _count_new(self, files: Mapping[str, FileIdentity]) -> int:
        """Return how many archives must be read."""
        records = self._remembered()
        return sum(name not in records or records[name].identity != identity for name, identity in files.items())

    def _probe_all(self, files: Mapping[str, FileIdentity]) -> Records:
        remembered, proof = self._remembered(), self.proof()
        probed = ((name, self._probe(name, file, remembered.get(name), proof)) for name, file in files.items())
        records = {name: record for name, record in probed if record is not None}
        self._remember(remembered, records)
        return records

    def _make_list(self, records: Records, proof: Proof, generations: Sequence[str]) -> list[BackupEntry]:
        """Return the entries of `records`, newest first. Entries that did not change are used again."""
        before = self._list if self._list.proof == proof else _List(proof)
        entries: dict[str, _Listed] = {}
        for name, record in records.items():
            use = self.shared_runs.use_of(name, record.identity)
            listed = before.entries.get(name)
            is_listed = listed is not None and listed.record is record and listed.use == use
            if listed is None or not is_listed or not self._has_same_annotations(listed.entry, record):
                listed = _Listed(record, use, self._entry(name, record, proof))
            entries[name] = listed
        is_same = before.generations == generations and _are_same(before.entries, entries)
        ordered = before.ordered if is_same else newest_first([new.entry for new in entries.values()], generations)
        self._list = _List(proof, entries, generations, ordered)
        return list(ordered)

    def mark(self) -> object:
        """Return a value that changes with the archives and with what is known of them; None if that cannot be read.

        It does not change if a file is only written to.
        """
        try:
            return self._folder.stat().st_mtime_ns, self._records
        except OSError:
            return None

    def reread(self) -> None:
        """Read the manifest of every archive again, once: a recovery does not rely on what was noted of them.

        What a manifest does not tell stays: pins, verifications, known problems, and what was made here.
        """
        if self._is_reread:
            return
        remembered, proof = self._remembered(), self.proof()
        for name, identity in self._scan().items():
            before = remembered.get(name)
            record = None if before is None else self._probe(name, identity, _without_summary(before), proof)
            if record is not None and before is not None and not record.probe_failed and before.identity == identity:
                with self._lock:
                    self._records = {**self._records, name: _attribute(name, _with_facts_of(before, record), proof)}
        self._is_reread = True

    def unattributed(self) -> list[BackupEntry]:
        """Return the EventVault archives that cannot be read and have no summary, so that they may be ours."""
        summaries = {name: record.summary for name, record in self._remembered().items()}
        unknown = [entry for entry in self.entries() if entry.problem and summaries.get(entry.name) is None]
        return [entry for entry in unknown if entry.origin == "found" and self._is_marked(entry.name)]

    def proof(self) -> Proof:
        """Return what proves an archive, wherever it lies: that it was made here, or that an operator trusts it."""
        key = self._key()
        made = frozenset(record.made for record in self._remembered().values() if record.made is not None)
        return Proof(installation=self.installation, made=made, keys=() if key is None else (key.hex(),),
                     trust=self._trust())  # fmt: skip

    def entry(self, name: str) -> BackupEntry:
        """Return one archive. Raises BackupNotFound, or InvalidInput if no archive can have this name."""
        return self._entry(name, self._record(name), self.proof())

    def offsets_of(self, name: str) -> ArchivedOffsets | None:
        """Return how far an archive goes in Kafka; None if the catalogue does not know. Does not read the file."""
        with self._lock:
            record = self._records.get(name)
        return None if record is None or record.summary is None else record.summary.kafka

    def identity(self, name: str) -> FileIdentity:
        """Return the identity of the file with this name, for the parameter `read`. Raises BackupNotFound."""
        return self._record(name).identity

    def record_created(
        self,
        name: str,
        *,
        verified: int | None,
        digest: str | None = None,
        sha256: str | None = None,
        checked: Check = "digests",
        **made: Unpack[_Making],
    ) -> BackupEntry:
        """Add an archive that was made here and read back. verified: when its tables were checked, in microseconds."""
        return self._record_good(
            name,
            origin="created",
            made=digest or sha256,
            digest=digest,
            sha256=sha256,
            verified=verified,
            checked=None if verified is None else checked,
            content_checked=verified is not None,
            **made,
        )

    def record_uploaded(
        self,
        name: str,
        *,
        digest: str | None = None,
        sha256: str | None = None,
        verified: int | None = None,
        checked: Check = "digests",
    ) -> BackupEntry:
        """Add an archive that was uploaded and checked, by default just now."""
        return self._record_good(
            name,
            origin="uploaded",
            digest=digest,
            sha256=sha256,
            verified=self._now() if verified is None else verified,
            checked=checked,
        )

    def record_verified(
        self,
        name: str,
        *,
        verified: int,
        digest: str | None = None,
        sha256: str | None = None,
        sealed: SealedRoot | None = None,
        checked: Check = "digests",
        content_checked: bool = False,
        read: FileIdentity | None = None,
    ) -> BackupEntry:
        """Mark an archive as good after it was read to its end. digest, sha256: of the archive, if computed.

        sealed: what its end says now, if it was read. content_checked: every record or table of these bytes was read.
        read: the file that was read. Raises ArchiveIncomplete if another file has the name by now; that one is not
        marked.
        """
        more = {} if digest is None and sha256 is None else {"digest": digest, "sha256": sha256, "seal_found": sealed}
        return self._change(
            name,
            read,
            verified=verified,
            problem=None,
            probe_failed=False,
            checked=checked,
            content_checked=content_checked,
            **more,
        )

    def record_problem(self, name: str, problem: str, *, read: FileIdentity | None = None) -> BackupEntry:
        """Mark an archive as damaged until it is verified again. read: as for `record_verified`."""
        return self._change(
            name, read, problem=problem, verified=None, checked=None, content_checked=False, probe_failed=False
        )

    def note_made(self) -> int:
        """Note the checksum of each archive that is proven to be made here, so that no key is needed to prove it.

        Returns their number.
        """
        self.entries()
        with self._saving.held():
            proof, records = self.proof(), self._remembered()
            made = {name: _with_checksum(record) for name, record in records.items() if _is_made_here(record, proof)}
            self._save({**records, **made})
            with self._lock:
                self._records = {**self._records, **made}
        return len(made)

    def set_pinned(
        self, name: str, *, pinned: bool, reason: str | None = None, until: int | None = None
    ) -> BackupEntry:
        """Pin an archive, so that rotation does not remove it until then (microseconds), or unpin it."""
        with self._saving.held():
            before = self._record(name)
            record = msgspec.structs.replace(before, pinned=pinned)
            self._store({name: record})
            try:
                self.annotations.change(name, pin=Pin(reason, until) if pinned else None)
            except (EventVaultError, OSError) as error:
                self._store({name: before})
                raise self._as_answer(f"writing {data_folders.ANNOTATIONS}", error) from error
        return self._entry(name, record, self.proof())

    def remove(self, name: str, check: Callable[[list[BackupEntry]], None] = lambda _entries: None) -> None:
        """Remove the archive and its record. The caller holds `exclusive_lock`. Raises BackupNotFound.

        check: gets all archives and raises if this one must stay. No archive is pinned, marked or removed between this
        check and the removal.
        """
        with self._saving.held():
            self._record(name)
            check(self.entries())
            for error in self._remove([name]).values():
                raise error

    def remove_all(self, choose: Callable[[list[BackupEntry]], list[str]]) -> list[str]:
        """Remove several archives in one change of the catalogue, as `remove` does one. Returns their names.

        choose: gets all archives and returns the names of those to remove. One that cannot be removed stays.
        """
        with self._saving.held():
            names = choose(self.entries())
            failed = self._remove(names)
        for error in failed.values():
            log.warning("%s", error)
        return [name for name in names if name not in failed]

    def _remove(self, names: Sequence[str]) -> dict[str, EventVaultError]:
        """Remove archives and all that is known of them. Returns the errors of those that stay. `_saving` is held."""
        records = {name: self._record(name) for name in names}
        noted = {name: self.annotations.of(name) for name in names}
        failed: dict[str, EventVaultError] = {}
        self._store(dict.fromkeys(names))
        try:
            self.annotations.forget(names)
            for name in names:
                try:
                    # In one step, although posts wait 20 ms while ext4 with `discard` frees 200 MB: a program that
                    # copies the archive without a lock, as rsync does, can read it to the end.
                    (self._folder / name).unlink(missing_ok=True)
                except OSError as error:
                    failed[name] = self._unavailable(f"removing {name}", error)
            sync_folder(self._folder)
        except (EventVaultError, OSError) as error:
            failed = {name: self._as_answer(f"removing {name}", error) for name in names}
        if failed:
            self._store({name: records[name] for name in failed})
            with suppress(EventVaultError, OSError):  # the catalogue has the pins
                self.annotations.put_back({name: noted[name] for name in failed})
        return failed

    def note_rehearsal(self, name: str, result: dict[str, Any]) -> None:
        """Note the result of the newest rehearsal of an archive. Raises NoSpace too."""
        with self._saving.held():
            self.check_folder()
            try:
                self.annotations.change(name, rehearsal=result)
            except OSError as error:
                raise self._unavailable(f"writing {data_folders.ANNOTATIONS}", error) from error

    def _record_good(self, name: str, *, made: str | None = None, **facts: Any) -> BackupEntry:
        return self._change(name, made=made, problem=None, probe_failed=False, **facts)

    def _change(self, name: str, read: FileIdentity | None = None, **change: object) -> BackupEntry:
        with self._saving.held():
            present = self._record(name)
            if read is not None and present.identity != read:
                raise ArchiveIncomplete(
                    f"{name} was replaced or changed while it was read", hint="check it again once its copy is complete"
                )
            record = _attribute(name, msgspec.structs.replace(present, **change), self.proof())
            self._store({name: record})
        return self._entry(name, record, self.proof())

    def _store(self, changed: Mapping[str, ArchiveRecord | None]) -> None:
        """Write the catalogue with some records changed, then use it. None: a removed record. `_saving` is held."""
        self._save(_with(self._remembered(), changed))
        with self._lock:
            self._records = _with(self._records, changed)

    def _save(self, records: Records) -> None:
        self.check_folder()
        try:
            catalogue_file.save(self._folder, records)
        except OSError as error:
            raise self._unavailable(f"writing {data_folders.CATALOGUE}", error) from error
        with self._lock:
            self._loaded = FileIdentity.at(self._folder / data_folders.CATALOGUE)

    def _remembered(self) -> Records:
        """Return the records in memory, read again if the file was changed. They are never changed in place."""
        path = self._folder / data_folders.CATALOGUE
        try:
            with self._lock:
                before, records = self._loaded, self._records
            while FileIdentity.at(path) != before:
                loaded = catalogue_file.load(self._folder)
                present = {name: loaded[name] for name in loaded if (self._folder / name).exists()}
                identity = FileIdentity.at(path)
                with self._lock:
                    if self._loaded == before:  # else it was written, or read by another thread, meanwhile
                        self._loaded, self._records = identity, present
                    before, records = self._loaded, self._records
        except OSError as error:
            raise self._unavailable(f"reading {path.name}", error) from error
        return records

    def _remember(self, before: Records, probed: Records) -> None:
        """Add the records that are new since `before`. A failure to write them is ignored: they can be made again.

        The result of a failed probe is not added: a file that is being copied becomes complete, a disk answers again.
        """
        changed = {name: new for name, new in probed.items() if new is not before.get(name) and not new.probe_failed}
        with self._lock:
            valid = {name: new for name, new in changed.items() if self._records.get(name) is before.get(name)}
            self._records = {**self._records, **valid}
            self._unsaved = self._unsaved or bool(valid)
        if self._unsaved:
            with self._saving.held_if_free() as is_held, suppress(EventVaultError):
                if is_held:
                    self._save(self._remembered())
                    self._unsaved = False

    def _settle_pins(self) -> None:
        """Let catalogue and annotations name the same pins, after one was lost or EventVault 0.1.0 pinned an archive.

        If that cannot be written, the next list tries again; meanwhile a pin in either counts.
        """
        if self._settled == (self._loaded, self.annotations.loaded):
            return
        with self._saving.held_if_free() as is_held, suppress(EventVaultError, OSError):
            if not is_held:
                return
            records, pins = self._remembered(), self.annotations.pins()
            if unknown := {name for name, record in records.items() if record.pinned} - pins.keys():
                self.check_folder()
                self.annotations.pin_all(unknown)
            valid = {name for name, pin in pins.items() if not pin.is_over(self._now())}
            if lacking := {name for name in valid & records.keys() if not records[name].pinned}:
                pinned = {name: msgspec.structs.replace(records[name], pinned=True) for name in lacking}
                self._save({**records, **pinned})
                with self._lock:
                    self._records = {**self._records, **pinned}
            self._settled = (self._loaded, self.annotations.loaded)

    def _has_same_annotations(self, entry: BackupEntry, record: ArchiveRecord) -> bool:
        rehearsal = self.annotations.of(entry.name).rehearsal
        return entry.rehearsal == rehearsal and entry.pin == self._pin(entry.name, record)

    def _pin(self, name: str, record: ArchiveRecord) -> Pin | None:
        """Return the pin of an archive, if it is not over."""
        pin = self.annotations.of(name).pin or (Pin() if record.pinned else None)
        return None if pin is None or pin.is_over(self._now()) else pin

    def _refresh_annotations(self) -> None:
        try:
            self.annotations.refresh()
        except OSError as error:
            raise self._unavailable(f"reading {data_folders.ANNOTATIONS}", error) from error

    def _refresh_shared_runs(self, records: Records) -> None:
        try:
            self.shared_runs.refresh({name: record.identity for name, record in records.items()})
        except OSError as error:
            raise self._unavailable("reading what archives share", error) from error

    def _scan(self) -> dict[str, FileIdentity]:
        identities, refused = {}, []
        try:
            with os.scandir(self._folder) as files:
                for file in files:
                    if not names.is_name(file.name):
                        refused += [file.name] if names.looks_like_archive(file.name) else []
                    elif file.is_file(follow_symlinks=False):
                        with contextlib.suppress(FileNotFoundError):
                            identities[file.name] = FileIdentity.of(file.stat(follow_symlinks=False))
        except OSError as error:
            raise self._unavailable("listing the backups", error) from error
        self.refused_names = sorted(refused)
        return identities

    def _record(self, name: str) -> ArchiveRecord:
        names.check_name(name)
        remembered = self._remembered().get(name)
        self._refresh_annotations()
        try:
            identity = FileIdentity.at(self._folder / name)
        except OSError as error:
            raise self._unavailable(f"reading {name}", error) from error
        record = None if identity is None else self._probe(name, identity, remembered, self.proof())
        if record is None:
            if not self._folder.is_dir():
                missing = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
                raise self._unavailable(f"looking for {name}", missing)
            raise BackupNotFound(f"there is no backup {name}", hint="GET /api/backup/list shows the backups")
        return record

    def _probe(
        self, name: str, identity: FileIdentity, before: ArchiveRecord | None, proof: Proof
    ) -> ArchiveRecord | None:
        """Return the record of the file as it is now; None if it has just vanished. before: the record so far."""
        if before is not None and before.identity == identity and not before.probe_failed:
            return _attribute(name, before, proof)
        pinned, made = (before.pinned, before.made) if before is not None else (False, None)
        try:
            summary = Summary.of(self._read_manifest(self._folder / name))
            sealed = self._read_seal(self._folder / name)
        except BackupNotFound:
            return None
        except (ArchiveError, OSError, ValueError) as error:
            problem = None if self._is_foreign(name, error) else str(error)
            unreadable = isinstance(error, ArchiveUnreadable | OSError)
            origin = before.origin if before is not None and problem is not None else "found"
            return ArchiveRecord(
                identity,
                origin=origin,
                pinned=pinned,
                problem=problem,
                probe_failed=problem is not None,
                unreadable=unreadable,
                made=made,
            )
        uploaded = before is not None and before.identity == identity and before.origin == "uploaded"
        digest = f"blake3:{sealed.root}" if sealed is not None else None
        record = ArchiveRecord(identity, summary, pinned=pinned, digest=digest, sealed=sealed, made=made)
        # Rotation must not take an upload for an archive that was made here.
        return msgspec.structs.replace(record, origin="uploaded") if uploaded else _attribute(name, record, proof)

    def _is_foreign(self, name: str, error: Exception) -> bool:
        """Return True for a foreign archive, which needs no manifest."""
        try:
            return isinstance(error, ArchiveAlien) and self._kind(self._folder / name) == "foreign"
        except (ArchiveError, BackupNotFound, OSError):
            return False

    def _is_marked(self, name: str) -> bool:
        try:
            return reader.begins_as_own(self._folder / name)
        except (ArchiveError, BackupNotFound):
            return False

    def _entry(self, name: str, record: ArchiveRecord, proof: Proof) -> BackupEntry:
        summary = record.summary
        created = summary.created if summary else names.instant_of(name)
        use = self.shared_runs.use_of(name, record.identity)
        pin = self._pin(name, record)
        made_here = _is_made_here(record, proof)
        trusted = not made_here and _is_trusted(record, proof)
        if record.checked == "digests" and not (made_here or trusted):
            # Digests that anybody may have written prove nothing about the events: these were not checked yet.
            record = msgspec.structs.replace(record, verified=None, checked=None)
        return BackupEntry(
            name=name,
            path=str(self._folder / name),
            size=record.identity.size,
            created=record.identity.modified // 1000 if created is None else created,
            label=summary.label if summary else None,
            events=summary.events if summary else None,
            sequence=summary.sequence if summary else None,
            generation=summary.generation if summary else None,
            arrived=record.identity.modified // 1000,
            verified=None if record.verified is None else min(record.verified, use.read or record.verified),
            own_verified=record.verified,
            pinned=pin is not None,
            pin=pin,
            rehearsal=self.annotations.of(name).rehearsal,
            sha256=record.sha256,
            digest=record.digest,
            checked=record.checked,
            content_checked=record.content_checked,
            origin=record.origin,
            origin_proven=made_here or trusted,
            trigger=record.trigger,
            duration=record.duration,
            added_bytes=use.added,
            shared_bytes=use.shared,
            unique_bytes=use.unique,
            trusted=trusted,
            installation=summary.installation if summary else None,
            seal_changed=record.seal_changed,
            problem=record.problem,
            unreadable=record.probe_failed and record.unreadable,
        )

    def _as_answer(self, doing: str, error: EventVaultError | OSError) -> EventVaultError:
        return error if isinstance(error, EventVaultError) else self._unavailable(doing, error)

    def _unavailable(self, doing: str, error: OSError) -> EventVaultError:
        where = "" if error.filename else f" in {self._folder}"
        return as_answer(doing + where, error, BackupsUnavailable)


def _are_same(one: Mapping[str, _Listed], other: Mapping[str, _Listed]) -> bool:
    return one.keys() == other.keys() and all(one[name] is other[name] for name in other)


def _without_summary(record: ArchiveRecord) -> ArchiveRecord:
    """Return the record without what the manifest tells, so that its archive is read again."""
    return msgspec.structs.replace(record, summary=None, sealed=None, digest=None, probe_failed=True)


def _with_facts_of(before: ArchiveRecord, record: ArchiveRecord) -> ArchiveRecord:
    """Return the record with what `before` has of the same file and its manifest does not tell."""
    return msgspec.structs.replace(
        before,
        summary=record.summary,
        sealed=record.sealed,
        digest=record.digest or before.digest,
        origin="uploaded" if before.origin == "uploaded" else "found",
    )


def _attribute(name: str, record: ArchiveRecord, proof: Proof) -> ArchiveRecord:
    """Return the record as `created` if its archive is proven to be made here, under the name that it has.

    It may be `found`, because the catalogue was lost. A copy under another name does not count in rotation.
    """
    has_its_name = record.summary is not None and record.summary.name == name
    if record.origin == "found" and has_its_name and _is_made_here(record, proof):
        return msgspec.structs.replace(record, origin="created")
    return record


def _is_trusted(record: ArchiveRecord, proof: Proof) -> bool:
    return record.problem is None and proof.covers_trusted(record.checksum, record.unchanged_seal)


def _with_checksum(record: ArchiveRecord) -> ArchiveRecord:
    root = f"blake3:{record.sealed.root}" if record.sealed else None
    return msgspec.structs.replace(record, made=record.checksum or root)


def _is_made_here(record: ArchiveRecord, proof: Proof) -> bool:
    installation = record.summary.installation if record.summary else None
    return record.problem is None and proof.covers_made_here(installation, record.checksum, record.unchanged_seal)


def _with(records: Records, changed: Mapping[str, ArchiveRecord | None]) -> Records:
    others = {name: record for name, record in records.items() if name not in changed}
    return {**others, **{name: record for name, record in changed.items() if record is not None}}
