"""Taking in foreign archives: any plain tar.gz of a LevelDB folder, hostile until proven otherwise."""

from __future__ import annotations

import hashlib
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from eventvault import data_folders
from eventvault.archive import layout, manifest
from eventvault.archive.gzip_members import members
from eventvault.archive.manifest import MAX_MANIFEST_BYTES, FileRecord, Manifest
from eventvault.archive.marks import archive_origin
from eventvault.archive.progress import Progress, ProgressCounter
from eventvault.archive.source import OpenArchive, Source, open_archive
from eventvault.archive.tar_entries import Entry, TarEntries
from eventvault.archive.unpacking import Budget, fresh_folder, unsafe
from eventvault.errors import ArchiveDamaged, ArchiveIncomplete

DATABASE_FOLDERS = ((), (data_folders.DATABASE,), ("storage", data_folders.DATABASE))
"""The folders of an archive in which a database is looked for."""

_DATABASE_FILE = re.compile(r"CURRENT|MANIFEST-[0-9]{1,20}|[0-9]{1,20}\.(log|ldb|sst)")
_NO_DATABASE_PREFIXES = ("PaxHeader", "__MACOSX", "._")
_MAX_IGNORED_NAMES = 50
_MAX_CANDIDATES = 1000
_MAX_SHOWN_CANDIDATES = 5
_MAX_SHOWN_CHARS = 200


@dataclass(frozen=True)
class ForeignFiles:
    """What was taken from a foreign archive.

    files: names of the database's files. ignored: what was left out, in the archive's words (of many, the first ones
    and how many more). sha256: of the whole archive, in hex. manifest: where the archive is one of ours that was packed
    anew; its files were checked.
    """

    files: list[str]
    ignored: list[str]
    sha256: str
    manifest: Manifest | None = None


def unpack_foreign(path: Path, target: Path, *, progress: Progress | None = None) -> ForeignFiles:
    """Unpack the LevelDB of a foreign archive, just its files, to `target`, which is on disk when this returns.

    target: a folder that is not there yet (FileExistsError); on any error it is removed again. progress: in bytes of
    the archive. Raises ArchiveAlien (no gzip, no tar, no database, several), ArchiveIncomplete, ArchiveDamaged,
    ArchiveUnsafe, NoSpace, BackupNotFound; ArchiveDamaged also for an archive of ours with a broken mark.
    """
    with open_archive(path, past_cache=True) as archive:
        if archive_origin(archive) == "own":
            raise archive.damaged("it is an archive of EventVault and not a foreign one", 0)
        counter = ProgressCounter(archive.size, progress)
        source = Source(archive, 0, archive.size, truncated=ArchiveIncomplete, counter=counter)
        with fresh_folder(target):
            entries = TarEntries(source, members(source), Budget(archive, target))
            return _Taker(archive, target, entries).read_exactly(source)


@dataclass
class _Found:
    """A folder in the archive that may be a database, and what was taken from it."""

    place: tuple[str, ...]
    records: dict[str, FileRecord] = field(default_factory=dict)
    current: bool = False
    manifest: bool = False

    def note(self, name: str) -> None:
        self.current = self.current or name == "CURRENT"
        self.manifest = self.manifest or name.startswith("MANIFEST-")

    @property
    def complete(self) -> bool:
        return self.current and self.manifest

    def __str__(self) -> str:
        return _shown("/".join(self.place) + "/") if self.place else "the top of the archive"


class _Taker:
    """Takes the database's files from the entries, place by place, and decides at the end which place it is."""

    def __init__(self, archive: OpenArchive, target: Path, entries: TarEntries) -> None:
        self._archive = archive
        self._target = target
        self._entries = entries
        self._found: dict[tuple[str, ...], _Found] = {place: _Found(place) for place in DATABASE_FOLDERS}
        self._seen: dict[bytes, bool] = {}
        self._ignored: list[str] = []
        self._more_ignored = 0
        self._manifest: Manifest | None = None

    def read_exactly(self, source: Source) -> ForeignFiles:
        """Take all of it; the entries end where the bytes of `source` do."""
        for entry in self._entries:
            self._check_unique(entry)
            if not entry.folder:
                self._take(entry)
        found = self._the_database()
        self._check_current(found)
        about = self._manifest if found.place == (data_folders.DATABASE,) else None
        if about is not None:
            self._check_manifest(about, found)
        self._move_up(found)
        more = [f"and {self._more_ignored} more"] if self._more_ignored else []
        return ForeignFiles(sorted(found.records), self._ignored + more, source.digest().hex(), about)

    def _check_unique(self, entry: Entry) -> None:
        """No file is there twice; a folder may be named again. Digests keep this small."""
        digest = hashlib.blake2b("/".join(entry.path).encode(), digest_size=16).digest()
        if digest in self._seen and not (self._seen[digest] and entry.folder):
            raise unsafe(self._archive, f"{_shown(entry.name)} is in it twice")
        self._seen[digest] = entry.folder

    def _take(self, entry: Entry) -> None:
        place, name = entry.path[:-1], entry.path[-1]
        if entry.path == (layout.MANIFEST_NAME,) and self._take_manifest(entry):
            return
        if _DATABASE_FILE.fullmatch(name) and place in DATABASE_FOLDERS:
            found = self._found[place]
            found.note(name)
            found.records[name] = self._write(entry, found, name)
            return
        if name == "CURRENT" or name.startswith("MANIFEST-"):
            self._note_elsewhere(place, name)
        self._ignore(entry.name)

    def _note_elsewhere(self, place: tuple[str, ...], name: str) -> None:
        if any(part.startswith(_NO_DATABASE_PREFIXES) for part in place):
            return
        if place in self._found or len(self._found) < _MAX_CANDIDATES:
            self._found.setdefault(place, _Found(place)).note(name)

    def _write(self, entry: Entry, found: _Found, name: str) -> FileRecord:
        sha256 = hashlib.sha256()
        folder = self._folder(found)
        folder.mkdir(exist_ok=True)
        with (folder / name).open("xb") as file:
            for piece in self._entries.content():
                sha256.update(piece)
                file.write(piece)
        return FileRecord(name, entry.size, sha256.hexdigest())

    def _take_manifest(self, entry: Entry) -> bool:
        """Whether this is the manifest of an archive of ours that somebody packed anew."""
        if entry.size > MAX_MANIFEST_BYTES:
            return False
        try:
            self._manifest = manifest.decode(b"".join(self._entries.content()), self._archive.path)
        except ArchiveDamaged:
            return False
        return True

    def _ignore(self, name: str) -> None:
        if len(self._ignored) < _MAX_IGNORED_NAMES:
            self._ignored.append(_shown(name))
        else:
            self._more_ignored += 1

    def _the_database(self) -> _Found:
        complete = [found for found in self._found.values() if found.complete]
        if len(complete) > 1:
            named = " and ".join(map(str, complete[:_MAX_SHOWN_CANDIDATES]))
            raise self._archive.alien(f"it holds {len(complete)} databases, in {named}: which one is meant?")
        if not complete:
            partial = [found for found in self._found.values() if found.records]
            where = f"; in {partial[0]} there are files of one, but not both CURRENT and a MANIFEST" if partial else ""
            raise self._archive.alien(f"there is no LevelDB in it{where}")
        if complete[0].place not in DATABASE_FOLDERS:
            raise self._archive.alien(f"the database in it lies in {complete[0]}, where none is looked for")
        return complete[0]

    def _check_current(self, found: _Found) -> None:
        with (self._folder(found) / "CURRENT").open("rb") as file:
            content = file.read(_MAX_SHOWN_CHARS)
        named = content.removesuffix(b"\n").decode("ascii", "backslashreplace")
        if not named.startswith("MANIFEST-") or named not in found.records:
            raise ArchiveDamaged(
                f"reading {self._archive.path} failed: the database's CURRENT names {named!r}, which is not there",
                hint="make the archive again while the program that owns the database is stopped",
            )

    def _check_manifest(self, about: Manifest, found: _Found) -> None:
        """An archive of ours that was packed anew must still hold the files that its manifest describes."""
        said = {record.name: record for record in about.files if _DATABASE_FILE.fullmatch(record.name)}
        for name in sorted(said.keys() | found.records.keys()):
            if said.get(name) != found.records.get(name):
                raise self._archive.damaged(f"{name} is not the file that {layout.MANIFEST_NAME} describes", 0)

    def _move_up(self, taken: _Found) -> None:
        """Leave just the database's files, right in the target."""
        for found in self._found.values():
            if found is not taken and found.records:
                for name in found.records:
                    self._ignore("/".join((*found.place, name)))
                shutil.rmtree(self._folder(found))
        folder = self._folder(taken)
        for name in taken.records:
            (folder / name).rename(self._target / name)
        folder.rmdir()

    def _folder(self, found: _Found) -> Path:
        """Where the files of one of PLACES are until it is known which one is the database."""
        return self._target / f"place-{len(found.place)}"


def _shown(name: str) -> str:
    return name if len(name) <= _MAX_SHOWN_CHARS else f"{name[:_MAX_SHOWN_CHARS]}…"
