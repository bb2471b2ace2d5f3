"""The long part of a backup, as a chore (`eventvault.chores`): plain data in, plain data out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from eventvault import clock
from eventvault.archive import writer
from eventvault.archive.manifest import Manifest
from eventvault.archive.reuse import earlier_archives
from eventvault.backups import table_digests
from eventvault.errors import BackupsUnavailable


def write_archive(
    *, folder: str, path: str, manifest: dict[str, Any], storage: str, earlier: Sequence[str] = ()
) -> dict[str, Any]:
    """Write the archive and read it back. Returns {size, sha256, verified, copied, bad}, or {taken: true}.

    storage: STORAGE_DIR, where it is kept which tables were read already. earlier: paths of archives that were found
    good, newest first, whose members may be copied. bad: those of them that are so no more, as {name, problem}.
    taken: there is something of that name. Raises NoSpace, BackupsUnavailable, or ArchiveDamaged when what was read
    back is not what was written; then nothing is left of it.
    """
    target, about = Path(path), msgspec.convert(manifest, Manifest)
    seen = table_digests.read_fingerprints(Path(folder))
    known = table_digests.load_digests(Path(storage), about, seen)
    paths = [Path(each) for each in earlier]
    try:
        with earlier_archives(paths, about.store_id, about.compression) as archives:
            written = writer.write_archive(target, Path(folder), about, known=known, earlier=archives)
    except FileExistsError:
        return {"taken": True}
    except OSError as error:
        raise BackupsUnavailable(
            f"writing {target} failed: {error.strerror}",
            hint=f"see to it that {target.parent} is there and that the service may write to it",
        ) from error
    table_digests.save_digests(Path(storage), written.manifest, seen)
    answer = {"size": written.size, "sha256": written.sha256, "copied": written.copied}
    return {**answer, "verified": clock.now(), "bad": msgspec.to_builtins(archives.bad)}
