"""Unpacks foreign archives: any plain tar.gz of one LevelDB, treated as hostile.

Implements the rules for foreign archives of `docs/format.md`, "How it is read".
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from blake3 import blake3

from eventvault import data_folders
from eventvault.archive import layout, manifest
from eventvault.archive.gzip_members import inflate_members
from eventvault.archive.manifest import MAX_MANIFEST_BYTES, FileRecord, Manifest
from eventvault.archive.marks import archive_origin
from eventvault.archive.progress import Progress, ProgressCounter
from eventvault.archive.source import ArchiveBytes, OpenArchive, open_archive
from eventvault.archive.tar_entries import TarEntries, TarEntry
from eventvault.archive.unpacking import UnpackingBudget, new_folder, unsafe
from eventvault.errors import ArchiveDamaged, ArchiveIncomplete
from eventvault.regular_files import open_file

_DATABASE_FILE = re.compile(r"CURRENT|MANIFEST-[0-9]{1,20}|[0-9]{1,20}\.(log|ldb|sst)")
_NO_DATABASE_PREFIXES = ("PaxHeader", "__MACOSX", "._")
_BESIDE_OURS = (
    data_folders.PREVIOUS_PREFIX,
    data_folders.JOBS_DATABASE,
    f".{data_folders.JOBS_DATABASE}.",
    data_folders.REHEARSAL_PREFIX,
    *data_folders.STORAGE_TEMPORARY_PREFIXES,
)
"""Other databases in STORAGE_DIR. If an archive holds that folder, the main database is meant."""
_MAX_IGNORED_NAMES = 50
_MAX_CANDIDATES = 1000
_MAX_SHOWN_CANDIDATES = 5
_MAX_SHOWN_CHARS = 200


@dataclass(frozen=True)
class ForeignFiles:
    """The files that were unpacked from a foreign archive.

    files: names of the database's files. ignored: names of the other files; if there are many, the first ones and the
    number of the rest. sha256: of the whole archive, in hex. manifest: of a repacked archive of ours, which its files
    match; None otherwise.
    """

    files: list[str]
    ignored: list[str]
    sha256: str
    manifest: Manifest | None = None


def unpack_foreign(path: Path, target: Path, *, progress: Progress | None = None) -> ForeignFiles:
    """Unpack only the files of the LevelDB in a foreign archive to `target`, which is on disk when this returns.

    target: a folder that does not exist (FileExistsError); on any error it is removed again. progress: in bytes of the
    archive. Raises ArchiveAlien (no gzip, no tar, no database, several databases), ArchiveIncomplete, ArchiveUnsafe,
    NoSpace, BackupNotFound, or ArchiveDamaged, also if EventVault wrote the archive.
    """
    with open_archive(path, past_cache=True) as archive:
        if archive_origin(archive) == "own":
            raise archive.damaged("it is an archive of EventVault and not a foreign one", 0)
        counter = ProgressCounter("unpack", archive.size, progress)
        source = ArchiveBytes(archive, 0, archive.size, truncated=ArchiveIncomplete, counter=counter)
        with new_folder(target):
            entries = TarEntries(source, inflate_members(source), UnpackingBudget(archive, target))
            return _DatabaseExtractor(archive, target, entries).run(source)


@dataclass
class _Candidate:
    """A folder of the archive that may hold a database. records: the files that were unpacked from it to `unpacked`."""

    folder: tuple[str, ...]
    unpacked: Path
    records: dict[str, FileRecord] = field(default_factory=dict)

    @property
    def has_manifest(self) -> bool:
        return any(name.startswith("MANIFEST-") for name in self.records)

    @property
    def complete(self) -> bool:
        return "CURRENT" in self.records and self.has_manifest

    def is_beside(self, folders: Collection[tuple[str, ...]]) -> bool:
        """Return whether this lies in a STORAGE_DIR of which the main database is one of `folders`."""
        return any(
            part.startswith(_BESIDE_OURS) and (*self.folder[:depth], data_folders.DATABASE) in folders
            for depth, part in enumerate(self.folder)
        )

    def __str__(self) -> str:
        return _shortened("/".join(self.folder) + "/") if self.folder else "the top of the archive"


class _DatabaseExtractor:
    """Unpacks the files of each candidate to a folder of its own, and decides at the end which one is the database."""

    def __init__(self, archive: OpenArchive, target: Path, entries: TarEntries) -> None:
        self._archive = archive
        self._target = target
        self._entries = entries
        self._candidates: dict[tuple[str, ...], _Candidate] = {}
        self._seen: dict[bytes, bool] = {}
        self._ignored: list[str] = []
        self._more_ignored = 0
        self._manifest: Manifest | None = None

    def run(self, source: ArchiveBytes) -> ForeignFiles:
        """Unpack the database. source: of the whole archive, for its SHA-256."""
        for entry in self._entries:
            self._check_unique(entry)
            if not entry.folder:
                self._add(entry)
        database = self._choose_database()
        self._check_current(database)
        about = self._manifest if database.folder == (data_folders.DATABASE,) else None
        if about is not None:
            self._check_manifest(about, database)
        self._move_up(database)
        more = [f"and {self._more_ignored} more"] if self._more_ignored else []
        return ForeignFiles(sorted(database.records), self._ignored + more, source.digest().hex(), about)

    def _check_unique(self, entry: TarEntry) -> None:
        """Refuse a second file of the same name. A folder may come twice. Digests of the names take little memory."""
        digest = hashlib.blake2b("/".join(entry.path).encode(), digest_size=16).digest()
        if digest in self._seen and not (self._seen[digest] and entry.folder):
            raise unsafe(self._archive, f"{_shortened(entry.name)} is in it twice")
        self._seen[digest] = entry.folder

    def _add(self, entry: TarEntry) -> None:
        folder, name = entry.path[:-1], entry.path[-1]
        if entry.path == (layout.MANIFEST_NAME,) and self._read_manifest(entry):
            return
        if _DATABASE_FILE.fullmatch(name) and not any(part.startswith(_NO_DATABASE_PREFIXES) for part in folder):
            self._write(entry, self._candidate(folder), name)
        else:
            self._ignore(entry.name)

    def _candidate(self, folder: tuple[str, ...]) -> _Candidate:
        if folder not in self._candidates and len(self._candidates) == _MAX_CANDIDATES:
            raise unsafe(self._archive, f"more than {_MAX_CANDIDATES} folders in it have files of a database")
        unpacked = self._target / f"place-{len(self._candidates)}"
        return self._candidates.setdefault(folder, _Candidate(folder, unpacked))

    def _write(self, entry: TarEntry, candidate: _Candidate, name: str) -> None:
        sha256, digest = hashlib.sha256(), blake3()
        candidate.unpacked.mkdir(exist_ok=True)
        with open_file(candidate.unpacked / name, "xb") as file:
            for piece in self._entries.content():
                sha256.update(piece)
                digest.update(piece)
                file.write(piece)
        candidate.records[name] = FileRecord(name, entry.size, digest.hexdigest(), sha256.hexdigest())

    def _read_manifest(self, entry: TarEntry) -> bool:
        """Return True if the entry is the manifest of an archive of ours that somebody repacked."""
        if entry.size > MAX_MANIFEST_BYTES:
            return False
        try:
            self._manifest = manifest.decode(b"".join(self._entries.content()), self._archive.path)
        except ArchiveDamaged:
            return False
        return True

    def _ignore(self, name: str) -> None:
        if len(self._ignored) < _MAX_IGNORED_NAMES:
            self._ignored.append(_shortened(name))
        else:
            self._more_ignored += 1

    def _choose_database(self) -> _Candidate:
        complete = [candidate for candidate in self._candidates.values() if candidate.complete]
        folders = {candidate.folder for candidate in complete}
        meant = [candidate for candidate in complete if not candidate.is_beside(folders)]
        if len(meant) > 1:
            named = " and ".join(map(str, meant[:_MAX_SHOWN_CANDIDATES]))
            raise self._archive.alien(f"it holds {len(meant)} databases, in {named}: which one is meant?")
        if not meant:
            candidates = self._candidates.values()
            partial = [
                candidate for candidate in candidates if "CURRENT" in candidate.records or candidate.has_manifest
            ]
            where = f"; in {partial[0]} there are files of one, but not both CURRENT and a MANIFEST" if partial else ""
            raise self._archive.alien(f"there is no LevelDB in it{where}")
        return meant[0]

    def _check_current(self, database: _Candidate) -> None:
        with open_file(database.unpacked / "CURRENT") as file:
            content = file.read(_MAX_SHOWN_CHARS)
        named = content.removesuffix(b"\n").decode("ascii", "backslashreplace")
        if not named.startswith("MANIFEST-") or named not in database.records:
            raise ArchiveDamaged(
                f"reading {self._archive.path} failed: the database's CURRENT names {named!r}, which is not there",
                hint="make the archive again while the program that owns the database is stopped",
            )

    def _check_manifest(self, about: Manifest, database: _Candidate) -> None:
        """Raise ArchiveDamaged unless a repacked archive of ours holds the files that its manifest describes."""
        listed = {record.name: record for record in about.files if _DATABASE_FILE.fullmatch(record.name)}
        for name in sorted(listed.keys() | database.records.keys()):
            if name not in database.records or not _describes(listed.get(name), database.records[name]):
                raise self._archive.damaged(f"{name} is not the file that {layout.MANIFEST_NAME} describes", 0)

    def _move_up(self, database: _Candidate) -> None:
        """Move the files of the database to the top of the target, and remove the files of the other candidates."""
        for candidate in self._candidates.values():
            if candidate is not database:
                for name in candidate.records:
                    self._ignore("/".join((*candidate.folder, name)))
                shutil.rmtree(candidate.unpacked)
        for name in database.records:
            (database.unpacked / name).rename(self._target / name)
        database.unpacked.rmdir()


def _describes(listed: FileRecord | None, unpacked: FileRecord) -> bool:
    """Return whether a manifest's record, with the digest of either format, describes the unpacked file."""
    if listed is None:
        return False
    same = listed.blake3 == unpacked.blake3 if listed.blake3 else listed.sha256 == unpacked.sha256
    return same and listed.size == unpacked.size


def _shortened(name: str) -> str:
    return name if len(name) <= _MAX_SHOWN_CHARS else f"{name[:_MAX_SHOWN_CHARS]}…"
