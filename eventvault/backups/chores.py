"""The long part of a backup, as a chore (`eventvault.chores`): plain data in, plain data out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from eventvault import clock
from eventvault.archive import writer
from eventvault.archive.manifest import Manifest
from eventvault.archive.reuse import reusable_members
from eventvault.archive.seal import seal_root
from eventvault.archive.stored import Clone
from eventvault.backups import table_digests
from eventvault.backups.shared_runs import ClonedRun, SharedRuns
from eventvault.backups.table_check import check_now, checking_tables
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
    """Write the archive → read it back → check its new tables (begun beside the writing) → give it its name.

    Returns {size, digest, verified, copied, clones, compressed, checked, unchecked, bad, identity} or {exists}.

    storage: STORAGE_DIR, with the tables that were archived before. key: of this installation, in hex; it seals the
    archive. earlier: verified archives, newest first, whose members may be copied: their paths, and when the bytes that
    they share with no other archive were read. check_at_once: most bytes of new tables that are checked here. clones:
    what the archive shares with earlier ones, each as `ClonedRun`. checked, unchecked: the new tables that were
    checked, and those that must be checked yet; then `verified` is None. compressed: the files whose members must be
    inflated and compared yet. bad: the earlier archives that proved to be damaged or that the disk could not read, as
    {name, problem, damaged}. identity: of the file that was named. exists: the name is in use.

    Raises DatabaseDamaged if a table is damaged, DiskFailed if one cannot be read, NoSpace, BackupsUnavailable, or
    ArchiveDamaged if the bytes on disk are not those that were written; then no file remains.
    """
    target, about = Path(path), msgspec.convert(manifest, Manifest)
    fingerprints = table_digests.read_fingerprints(Path(folder))
    archived = table_digests.load_digests(Path(storage), about, fingerprints)
    digests = {name: digest.blake3 for name, digest in archived.items()}
    new = [name for name in fingerprints if name not in archived or not archived[name].checked]
    paths = [Path(path) for path, _ in earlier]
    recent_reading = SharedRuns(target.parent).recent_readings({Path(path).name: read for path, read in earlier})
    at_once = sum(fingerprints[name].size for name in new) <= check_at_once
    checked, unchecked = (new, []) if at_once else ([], new)

    def check_before_name(complete: Manifest) -> None:
        wait_for_check()
        # A table that was checked once and is compressed anew, as no archive has its members, may have rotted since.
        check_now(
            Path(folder), [file.name for file in complete.files if digests.get(file.name) not in (None, file.blake3)]
        )

    try:
        with (
            checking_tables(Path(folder), checked) as wait_for_check,
            reusable_members(paths, about.store_id, about.compression, recent_reading) as archives,
        ):
            written = writer.write_archive(
                target,
                Path(folder),
                about,
                digests=digests,
                reusable=archives,
                seal=partial(seal_root, bytes.fromhex(key)),
                compare=at_once,
                before_name=check_before_name,
            )
        identity = msgspec.to_builtins(FileIdentity.of(target.lstat()))
    except FileExistsError:
        return {"exists": True}
    except OSError as error:
        raise as_answer(f"writing {target}", error, BackupsUnavailable) from error
    table_digests.save_digests(Path(storage), written.manifest, fingerprints, unchecked)
    result = {"size": written.size, "digest": written.digest, "verified": clock.now() if at_once else None}
    clones = [_describe(clone, paths[clone.number].name) for clone in written.clones]
    copied = {"copied": written.copied, "clones": clones, "bad": msgspec.to_builtins(archives.unusable)}
    to_check = {"checked": checked, "unchecked": unchecked, "compressed": [] if at_once else list(written.compressed)}
    return {**result, **copied, **to_check, "identity": identity}


def _describe(clone: Clone, source: str) -> dict[str, Any]:
    read = clone.read or clock.now()
    run = ClonedRun(source, clone.source_offset, clone.offset, clone.size, clone.tail, read)
    return msgspec.structs.asdict(run)
