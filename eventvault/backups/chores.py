"""The long part of a backup, as a chore (`eventvault.chores`): plain data in, plain data out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from eventvault import clock
from eventvault.archive import writer
from eventvault.archive.manifest import Manifest
from eventvault.archive.reuse import reusable_members
from eventvault.backups import table_digests
from eventvault.errors import BackupsUnavailable


def write_archive(
    *, folder: str, path: str, manifest: dict[str, Any], storage: str, earlier: Sequence[str] = ()
) -> dict[str, Any]:
    """Write the archive → read it back → give it its name. Returns {size, sha256, verified, copied, bad} or {exists}.

    storage: STORAGE_DIR, with the digests of tables that were read before. earlier: paths of verified archives, newest
    first, whose members may be copied. bad: those of them that proved to be damaged, as {name, problem}. exists: the
    name is in use. Raises NoSpace, BackupsUnavailable, or ArchiveDamaged if the bytes on disk are not those that were
    written; then no file remains.
    """
    target, about = Path(path), msgspec.convert(manifest, Manifest)
    fingerprints = table_digests.read_fingerprints(Path(folder))
    digests = table_digests.load_digests(Path(storage), about, fingerprints)
    try:
        with reusable_members([Path(name) for name in earlier], about.store_id, about.compression) as archives:
            written = writer.write_archive(target, Path(folder), about, digests=digests, reusable=archives)
    except FileExistsError:
        return {"exists": True}
    except OSError as error:
        raise BackupsUnavailable(
            f"writing {target} failed: {error.strerror}",
            hint=f"make sure that {target.parent} exists and that the service may write to it",
        ) from error
    table_digests.save_digests(Path(storage), written.manifest, fingerprints)
    result = {"size": written.size, "sha256": written.sha256, "copied": written.copied}
    return {**result, "verified": clock.now(), "bad": msgspec.to_builtins(archives.unusable)}
