"""Reads our archives, of either format: origin and manifest without waiting for a lock, full check, and unpacking."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Literal

from eventvault import data_folders
from eventvault.archive import layout
from eventvault.archive.format1 import reader as format1
from eventvault.archive.format2 import reader as format2
from eventvault.archive.manifest import Manifest
from eventvault.archive.marks import archive_origin, find_closing
from eventvault.archive.output_files import OutputFiles
from eventvault.archive.progress import Progress, ProgressCounter
from eventvault.archive.seal import SealedRoot
from eventvault.archive.source import OpenArchive, open_archive
from eventvault.archive.stored import NO_RUNS, SkippedRuns, StoredFile
from eventvault.archive.unpacking import check_fits, new_folder
from eventvault.archive.verified import VerifiedArchive
from eventvault.archive.whole_hash import WholeHash


def kind(path: Path) -> Literal["own", "foreign"]:
    """Return the origin, from the archive's two ends. `verify` and `unpack` read `own`, `unpack_foreign` the rest.

    Raises ArchiveIncomplete if it is empty or ends too early, ArchiveDamaged if it is ours and bytes follow its end,
    ArchiveAlien if it is not a gzip file, ArchiveTooNew, or BackupNotFound.
    """
    with open_archive(path, wait=False) as archive:
        return archive_origin(archive)


def begins_as_own(path: Path) -> bool:
    """Return True if the file begins like one of our archives, whatever follows. Raises as `open_archive`."""
    with open_archive(path, wait=False) as archive:
        return layout.opening_version(archive.read_at(0, layout.BLOCK)) is not None


def read_manifest(path: Path) -> Manifest:
    """Return the manifest of one of our archives, found from its end without reading the rest.

    Good enough for lists and plans, but nothing else is checked. Raises the errors of `kind`.
    """
    with open_archive(path, wait=False) as archive:
        return peek_manifest(archive)


def read_seal(path: Path) -> SealedRoot | None:
    """Return the root and the seal of one of our archives; None if it is not sealed. Raises the errors of `kind`."""
    with open_archive(path, wait=False) as archive:
        return None if _version(archive) == 1 else format2.read_seal(archive)


def verify(path: Path, *, progress: Progress | None = None, with_sha256: bool = False) -> VerifiedArchive:
    """Read and check every byte of one of our archives, from the disk.

    progress: in bytes of the archive. with_sha256: also compute the SHA-256 of the whole file. Raises
    ArchiveIncomplete, ArchiveDamaged (saying what and at which byte), ArchiveTooNew, BackupNotFound.
    """
    with open_archive(path, past_cache=True) as archive:
        return _read_through(archive, OutputFiles(None), ProgressCounter("read", archive.size, progress), with_sha256)


def verify_digests(
    path: Path, *, progress: Progress | None = None, with_sha256: bool = False, skipped: SkippedRuns = NO_RUNS
) -> VerifiedArchive:
    """Check an archive whose content is known to be good: its bytes must fit its root. Returns and raises as `verify`.

    An archive of format 1 has no such digests and is verified. skipped: runs whose shared blocks need not be read; then
    there is no SHA-256.
    """
    with open_archive(path, past_cache=True) as archive:
        counter = ProgressCounter("read", archive.size, progress)
        if _version(archive) == 1:
            return _read_through(archive, OutputFiles(None), counter, with_sha256)
        whole = WholeHash(archive) if with_sha256 and not skipped else None
        return format2.check_digests(archive, counter, whole, skipped)


def unpack(
    path: Path,
    target: Path,
    *,
    progress: Progress | None = None,
    durable: bool = True,
    with_sha256: bool = False,
) -> VerifiedArchive:
    """Verify an archive and write its files to `target/event_registry_db/`, which is on disk when this returns.

    target: a folder that does not exist (FileExistsError); on any error it is removed again. durable=False: do not wait
    for the disk. Raises the errors of `verify`, ArchiveUnsafe, and NoSpace (before anything is written, if the sizes in
    the manifest are true).
    """
    with open_archive(path, past_cache=True) as archive:
        check_fits(archive, peek_manifest(archive).total_size, target.parent)
        with new_folder(target, durable=durable):
            folder = target / data_folders.DATABASE
            folder.mkdir()
            counter = ProgressCounter("unpack", archive.size, progress)
            return _read_through(archive, OutputFiles(folder, flush=durable), counter, with_sha256)


def peek_manifest(archive: OpenArchive) -> Manifest:
    """Return the manifest of an open archive. Raises the errors of `read_manifest`."""
    if archive_origin(archive) == "foreign":
        raise archive.alien("it was not made by EventVault and has no manifest")
    return format1.peek_manifest(archive) if _version(archive) == 1 else format2.peek_manifest(archive)


def peek_files(archive: OpenArchive) -> tuple[Manifest, Iterator[StoredFile]]:
    """Return the manifest, and the location of each file's data members. Raises the errors of `read_manifest`."""
    return format1.peek_files(archive) if _version(archive) == 1 else format2.peek_files(archive)


def _read_through(
    archive: OpenArchive, outputs: OutputFiles, counter: ProgressCounter, with_sha256: bool
) -> VerifiedArchive:
    with closing(outputs):
        if _version(archive) == 1:  # its full check always computes the SHA-256
            return format1.read_through(archive, outputs, counter)
        return format2.read_through(archive, outputs, counter, WholeHash(archive) if with_sha256 else None)


def _version(archive: OpenArchive) -> int:
    return find_closing(archive).version
