"""The long parts of a backup, as chores (`eventvault.chores`): plain data in, plain data out."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from eventvault import clock
from eventvault.backups import tables
from eventvault.backups.archive import foreign, reader, writer
from eventvault.backups.archive.earlier import earlier_archives
from eventvault.backups.archive.manifest import Manifest
from eventvault.errors import ArchiveDamaged, BackupsUnavailable
from eventvault.leveldb.examine import examine_database


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
    seen = tables.tables_of(Path(folder))
    known = tables.known_tables(Path(storage), about, seen)
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
    tables.remember_tables(Path(storage), written.manifest, seen)
    answer = {"size": written.size, "sha256": written.sha256, "copied": written.copied}
    return {**answer, "verified": clock.now(), "bad": msgspec.to_builtins(archives.bad)}


def verify_archive(*, path: str, scratch: str) -> dict[str, Any]:
    """Check an archive of any origin. Returns {manifest, ignored, sha256}; raises an ArchiveError.

    manifest: None where the archive has none. sha256: of the whole file.

    scratch: a folder in which a foreign archive may be unpacked to be looked at.
    """
    archive = Path(path)
    if reader.kind(archive) == "own":
        checked = reader.verify(archive)
        return {"manifest": msgspec.to_builtins(checked.manifest), "ignored": [], "sha256": checked.sha256}
    with tempfile.TemporaryDirectory(dir=scratch, prefix=".restoring-") as folder:
        unpacked = foreign.unpack_foreign(archive, Path(folder) / "foreign")
        examination = examine_database(Path(folder) / "foreign")
        if examination.damaged:
            raise ArchiveDamaged(
                f"{archive.name} holds a database that is damaged: {'; '.join(examination.problems)}",
                hint="make the archive again while nothing writes to the database",
            )
    manifest = msgspec.to_builtins(unpacked.manifest) if unpacked.manifest else None
    return {"manifest": manifest, "ignored": unpacked.ignored, "sha256": _sha256(archive)}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
