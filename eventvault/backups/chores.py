"""The long part of a backup, as a chore (`eventvault.chores`): plain data in, plain data out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from eventvault import clock
from eventvault.archive.manifest import Manifest
from eventvault.archive.reuse import reusable_members
from eventvault.archive.seal import seal_root
from eventvault.archive.stored import Clone
from eventvault.archive.writer import unnamed_archive
from eventvault.backups import table_digests
from eventvault.backups.shared_runs import ClonedRun, SharedRuns
from eventvault.backups.table_check import check_now, checking_tables
from eventvault.backups.written import WrittenBackup
from eventvault.damage import as_answer
from eventvault.errors import BackupsUnavailable
from eventvault.files import FileIdentity


def write_archive(
    *,
    folder: str,
    path: str,
    manifest: dict[str, Any],
    storage: str,
    key: str,
    check_at_once: int,
    earlier: Sequence[tuple[str, int]] = (),
) -> dict[str, Any]:
    """Make an archive of the checkpoint in `folder`: write → read back → check (begun beside the writing) → name.

    Returns a `WrittenBackup`, or {exists} if the name is in use.

    storage: STORAGE_DIR, with the tables that were archived before. key: of this installation, in hex; it seals the
    archive. earlier: verified archives, newest first, whose members may be copied: their paths, and when the bytes that
    they share with no other archive were read. check_at_once: most bytes of new tables that are checked here.

    Raises DatabaseDamaged if a table is damaged, DiskFailed if one cannot be read, NoSpace, BackupsUnavailable, or
    ArchiveDamaged if the bytes on disk are not those that were written; then no file remains.
    """
    target, database, about = Path(path), Path(folder), msgspec.convert(manifest, Manifest)
    fingerprints = table_digests.read_fingerprints(database)
    archived = table_digests.load_digests(Path(storage), about, fingerprints)
    digests = {name: digest.blake3 for name, digest in archived.items()}
    new = [name for name in fingerprints if name not in archived or not archived[name].checked]
    paths = [Path(path) for path, _ in earlier]
    recent_reading = SharedRuns(target.parent).recent_readings({Path(path).name: read for path, read in earlier})
    at_once = sum(fingerprints[name].size for name in new) <= check_at_once
    checked, unchecked = (new, []) if at_once else ([], new)
    try:
        with (
            checking_tables(database, checked) as wait_for_check,
            reusable_members(paths, about.store_id, about.compression, recent_reading) as archives,
            unnamed_archive(
                target,
                database,
                about,
                digests=digests,
                reusable=archives,
                seal=partial(seal_root, bytes.fromhex(key)),
                compare=at_once,
            ) as archive,
        ):
            wait_for_check()
            # A table that was checked once and is read again, as no archive has its members, may have rotted since.
            files = archive.manifest.files
            check_now(database, [file.name for file in files if digests.get(file.name) not in (None, file.blake3)])
        identity = FileIdentity.of(target.lstat())
    except FileExistsError:
        return {"exists": True}
    except OSError as error:
        raise as_answer(f"writing {target}", error, BackupsUnavailable) from error
    table_digests.save_digests(Path(storage), archive.manifest, fingerprints, unchecked)
    written = WrittenBackup(
        size=archive.size,
        digest=archive.digest,
        verified=clock.now() if at_once else None,
        copied=archive.copied,
        clones=tuple(_cloned_run(clone, paths[clone.number].name) for clone in archive.clones),
        unusable=tuple(archives.unusable),
        checked=tuple(checked),
        unchecked=tuple(unchecked),
        compressed=() if at_once else archive.compressed,
        identity=identity,
    )
    result: dict[str, Any] = msgspec.to_builtins(written)
    return result


def _cloned_run(clone: Clone, source: str) -> ClonedRun:
    read = clone.read or clock.now()
    return ClonedRun(source, clone.source_offset, clone.offset, clone.size, clone.tail, read)
