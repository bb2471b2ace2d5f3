"""Reads archives of ours: origin and manifest without a wait for a lock, the full check, and unpacking.

`verify` and `unpack` read in parallel; after a failure the sequential reader finds the place of the damage.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from eventvault import data_folders
from eventvault.archive import layout, manifest, parallel_reader
from eventvault.archive.entries import EntryReader
from eventvault.archive.index import index_entries, last_header
from eventvault.archive.layout import IndexEntry
from eventvault.archive.manifest import Manifest
from eventvault.archive.marks import archive_origin, find_closing
from eventvault.archive.parallel_reader import VerifiedArchive
from eventvault.archive.progress import Progress, ProgressCounter
from eventvault.archive.sequential_reader import check_sequentially
from eventvault.archive.source import OpenArchive, Source, open_archive
from eventvault.archive.unpacking import check_fits, new_folder
from eventvault.errors import ArchiveDamaged


def kind(path: Path) -> Literal["own", "foreign"]:
    """Return the archive's origin, from its two ends: `verify` and `unpack` read `own`, `unpack_foreign` the others.

    Raises ArchiveIncomplete if it is empty or ends too early, ArchiveDamaged if it is ours and bytes follow its end,
    ArchiveAlien if it is no gzip file, ArchiveTooNew, BackupNotFound.
    """
    with open_archive(path, wait=False) as archive:
        return archive_origin(archive)


def begins_as_own(path: Path) -> bool:
    """Return True if the file begins as an archive of ours, whatever follows. Raises as `open_archive` does."""
    with open_archive(path, wait=False) as archive:
        return layout.opening_version(archive.read_at(0, layout.BLOCK)) is not None


def read_manifest(path: Path) -> Manifest:
    """Return the manifest of an archive of ours, found from its end without reading the rest.

    Good enough for lists and plans, but nothing else is checked. Raises as `kind` does, and ArchiveDamaged.
    """
    with open_archive(path, wait=False) as archive:
        return peek_manifest(archive)


def verify(path: Path, *, progress: Progress | None = None) -> VerifiedArchive:
    """Read and check every byte of an archive of ours, from the disk.

    progress: in bytes of the archive. Raises ArchiveIncomplete, ArchiveDamaged (saying what and at which byte),
    ArchiveTooNew, BackupNotFound.
    """
    with open_archive(path, past_cache=True) as archive:
        return _read_through(archive, None, ProgressCounter(archive.size, progress))


def unpack(path: Path, target: Path, *, progress: Progress | None = None) -> VerifiedArchive:
    """As `verify`, and write the files to `target/event_registry_db/`, which is on disk when this returns.

    target: a folder that does not exist (FileExistsError); on any error it is removed again. Raises as `verify` does,
    NoSpace (before anything is written, if the manifest's sizes are true), ArchiveUnsafe.
    """
    with open_archive(path, past_cache=True) as archive:
        check_fits(archive, peek_manifest(archive).total_size, target.parent)
        with new_folder(target):
            (target / data_folders.DATABASE).mkdir()
            return _read_through(archive, target / data_folders.DATABASE, ProgressCounter(archive.size, progress))


def _read_through(archive: OpenArchive, folder: Path | None, counter: ProgressCounter) -> VerifiedArchive:
    try:
        return parallel_reader.read_through(archive, folder, counter)
    except ArchiveDamaged:
        check_sequentially(archive)  # its error says what is wrong and where
        raise


def peek_manifest(archive: OpenArchive) -> Manifest:
    if archive_origin(archive) == "foreign":
        raise archive.alien("it was not made by EventVault and has no manifest")
    offset = find_closing(archive).index_offset
    last = last_header(_text_at(archive, offset, layout.INDEX_NAME), archive, offset)
    return manifest.decode(_text_at(archive, last, layout.MANIFEST_NAME), archive.path)


def peek_entries(archive: OpenArchive) -> Iterator[IndexEntry]:
    """Yield the entries in the index of an archive of ours. Raises as `read_manifest` does."""
    offset = find_closing(archive).index_offset
    yield from index_entries(_text_at(archive, offset, layout.INDEX_NAME), archive, offset)


def _text_at(archive: OpenArchive, offset: int, name: str) -> bytearray:
    """Return the content of the entry whose header member should begin at `offset`."""
    end = archive.size - layout.CLOSING_SIZE
    if offset >= end:
        raise archive.damaged(f"{name} lies outside of the archive", offset)
    reader = EntryReader(Source(archive, offset, end))
    reader.begin()
    return reader.text(name)
