"""Reading archives of ours: a quick look, the full check, and unpacking with the same checks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from eventvault import data_folders
from eventvault.archive import layout, manifest, parallel_reader
from eventvault.archive.entries import EntryReader
from eventvault.archive.index import index_entries, last_header
from eventvault.archive.layout import IndexEntry
from eventvault.archive.manifest import Manifest
from eventvault.archive.marks import archive_origin, find_closing
from eventvault.archive.parallel_reader import Checked
from eventvault.archive.source import Opened, Source, opened
from eventvault.archive.spans import find_spans
from eventvault.archive.unpacking import check_fits, fresh_folder
from eventvault.archive.walk import Write, walk
from eventvault.archive.watch import IsCancelled, Progress, Watch
from eventvault.errors import ArchiveDamaged, InvalidInput


def kind(path: Path) -> Literal["own", "foreign"]:
    """Whose archive this is, by a look at its two ends: `verify` and `unpack` read `own`, `unpack_foreign` the others.

    Raises ArchiveIncomplete for one that ends too early (or is empty), ArchiveDamaged for one of ours with something
    after its end, ArchiveAlien for what is no gzip file, ArchiveTooNew, BackupNotFound.
    """
    with opened(path) as archive:
        return archive_origin(archive)


def begins_as_own(path: Path) -> bool:
    """Whether the file begins as an archive of ours does, whatever became of the rest. Raises as `opened` does."""
    with opened(path) as archive:
        return layout.opening_version(archive.read_at(0, layout.BLOCK)) is not None


def read_manifest(path: Path) -> Manifest:
    """The manifest of an archive of ours, found from its end without reading the rest.

    A hint for lists and plans: nothing else is checked. Raises as `kind` does, and ArchiveDamaged.
    """
    with opened(path) as archive:
        return peek(archive)


def verify(path: Path, *, progress: Progress | None = None, cancelled: IsCancelled | None = None) -> Checked:
    """Read every byte of an archive of ours from the disk and check all of it; gives the manifest, now proven.

    progress: in bytes of the archive. Raises ArchiveIncomplete, ArchiveDamaged (saying what and at which byte),
    ArchiveTooNew, BackupNotFound, Cancelled.
    """
    with opened(path, past_cache=True) as archive:
        return _read_through(archive, None, Watch(f"verifying {path}", archive.size, progress, cancelled))


def unpack(
    path: Path, target: Path, *, progress: Progress | None = None, cancelled: IsCancelled | None = None
) -> Checked:
    """`verify`, while the files are written to `target/event_registry_db/`, which is on disk when this returns.

    target: a folder that is not there yet (FileExistsError), in one that is; on any error it is removed again.
    Raises as `verify` does, NoSpace (before anything is written, where the size is known), ArchiveUnsafe.
    """
    with opened(path, past_cache=True) as archive:
        check_fits(archive, peek(archive).total_size, target.parent)
        watch = Watch(f"unpacking {path}", archive.size, progress, cancelled)
        with fresh_folder(target):
            (target / data_folders.DATABASE).mkdir()
            return _read_through(archive, target / data_folders.DATABASE, watch)


def extract(path: Path, name: str, target: Path) -> None:
    """Write one file of the database to `target`, a new file, without reading the others; its SHA-256 is checked.

    Raises InvalidInput where the archive has no file of this name, else as `verify` does; then `target` is gone.
    """
    with opened(path) as archive:
        try:
            parallel_reader.read_file(archive, find_spans(archive), name, target)
        except KeyError:
            raise InvalidInput(f"{path} holds no file {name!r}", hint="its manifest names the files") from None
        except FileExistsError:
            raise
        except BaseException:
            target.unlink(missing_ok=True)
            raise


def _read_through(archive: Opened, folder: Path | None, watch: Watch) -> Checked:
    try:
        return parallel_reader.read_through(archive, folder, watch)
    except ArchiveDamaged:
        walk(archive, _keep_nothing, Watch("looking for the damage", archive.size, None, None))
        raise


@contextmanager
def _keep_nothing(_name: str, _size: int) -> Iterator[Write]:
    yield len


def peek(archive: Opened) -> Manifest:
    """The manifest of an archive of ours, as it stands there. Raises as `read_manifest` does."""
    if archive_origin(archive) == "foreign":
        raise archive.alien("it was not made by EventVault and has no manifest")
    offset = find_closing(archive).index_offset
    last = last_header(_text_at(archive, offset, layout.INDEX_NAME), archive, offset)
    return manifest.decode(_text_at(archive, last, layout.MANIFEST_NAME), archive.path)


def peek_entries(archive: Opened) -> Iterator[IndexEntry]:
    """The entries of an archive of ours as its index says, one after the other. Raises as `read_manifest` does."""
    offset = find_closing(archive).index_offset
    yield from index_entries(_text_at(archive, offset, layout.INDEX_NAME), archive, offset)


def _text_at(archive: Opened, offset: int, name: str) -> bytearray:
    """The content of the entry whose header member is said to begin at `offset`."""
    end = archive.size - layout.CLOSING_SIZE
    if offset >= end:
        raise archive.damaged(f"{name} is said to lie outside of the archive", offset)
    reader = EntryReader(Source(archive, offset, end))
    reader.begin()
    return reader.text(name)
