"""Has a checkpoint archived: chooses the archive's name and what it may copy from, and runs the chore."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from eventvault import clock, data_folders
from eventvault.archive.manifest import Manifest
from eventvault.archive.reader import read_manifest
from eventvault.archive.reuse import UnusableArchive
from eventvault.backups import names
from eventvault.backups.catalogue import Catalogue
from eventvault.backups.entry import BackupEntry
from eventvault.backups.installation_key import ensure_key
from eventvault.backups.shared_damage import mark_sharing
from eventvault.backups.written import WrittenBackup
from eventvault.chores import Chores
from eventvault.database.checkpoint import Checkpoint
from eventvault.errors import BackupNotFound, EventVaultError, OperationCancelled, StoreUnavailable
from eventvault.files import FileIdentity, matching, remove_durably
from eventvault.operations.operation import Operation
from eventvault.settings import Settings

ARCHIVE = "archive"
"""The note of an operation that names the archive which it makes or removes."""
CHECK_AT_ONCE_BYTES = 32 * 2**20
"""Most bytes of new tables whose check a backup waits for. Their check takes about 20 ms of both cores."""

Earlier = list[tuple[str, int]]
"""The paths of archives, and when the bytes that they share with no other archive were read."""

log = logging.getLogger("BackupManager")


class Archiver:
    """Makes archives in BACKUP_DIR; the caller enters them in the catalogue."""

    def __init__(self, settings: Settings, catalogue: Catalogue, chores: Chores) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._chores = chores
        self.check_at_once = CHECK_AT_ONCE_BYTES

    def write(self, checkpoint: Checkpoint[Manifest], operation: Operation) -> tuple[Path, WrittenBackup]:
        """Archive the checkpoint under the first free name: write → read back → check → name. Returns its path, too.

        operation: notes a name (ARCHIVE) before an archive of that name can appear.
        """
        manifest = checkpoint.context
        for name in names.candidates(clock.parse(manifest.created), manifest.label):
            path = self._settings.backup_dir / name
            if path.exists():
                continue
            operation.note(ARCHIVE, name)
            earlier, reusable = self._reusable_archives()
            written = self._run_chore(checkpoint.folder, path, msgspec.structs.replace(manifest, name=name), earlier)
            if written is not None:
                self._record_damaged(written.unusable, reusable)
                self._catalogue.shared_runs.add(name, written.identity, written.clones, reusable)
                return path, written
        raise StoreUnavailable("no name is free for the backup", hint="try again in a second")

    def _run_chore(self, folder: Path, path: Path, manifest: Manifest, earlier: Earlier) -> WrittenBackup | None:
        """Return None if the name is in use."""
        try:
            result = self._chores.run(
                "write_archive",
                folder=str(folder),
                path=str(path),
                manifest=msgspec.to_builtins(manifest),
                storage=str(self._settings.storage_dir),
                key=ensure_key(self._settings).hex(),
                check_at_once=self.check_at_once,
                earlier=earlier,
            )
        except OperationCancelled:
            _remove_unfinished(path)
            _remove_named(path, manifest)
            raise
        except BaseException:
            _remove_unfinished(path)
            raise
        return None if "exists" in result else msgspec.convert(result, WrittenBackup)

    def _reusable_archives(self) -> tuple[Earlier, dict[str, FileIdentity]]:
        """Return the archives that members may be copied from, newest first.

        They come as the chore's argument `earlier`, and as the identity of each file.
        """
        earlier: Earlier = []
        reusable = {}
        for entry in self._catalogue.entries():
            if _may_be_copied_from(entry) and entry.own_verified is not None:
                with suppress(BackupNotFound):
                    reusable[entry.name] = self._catalogue.identity(entry.name)
                    earlier.append((entry.path, entry.own_verified))
        return earlier, reusable

    def _record_damaged(self, unusable: Iterable[UnusableArchive], reusable: dict[str, FileIdentity]) -> None:
        """Mark the archives that proved to be damaged while members were copied from them.

        One that the disk could not read may be good: its blocks are read before they are shared again.
        """
        for archive in unusable:
            name, problem = archive.name, archive.problem
            if not archive.damaged:
                log.warning("nothing was copied from %s: %s", name, problem)
                self._catalogue.shared_runs.record_failure(name, reusable[name])
                continue
            log.warning("%s is damaged: %s", name, problem)
            with suppress(EventVaultError):
                self._catalogue.record_problem(name, problem, read=reusable[name])
                mark_sharing(self._catalogue, self._chores, name)


def _may_be_copied_from(entry: BackupEntry) -> bool:
    """Return True for an archive that is proven to be made here, verified, and was inflated and compared here once.

    Members of format 1 are inflated when they are copied.
    """
    is_format_1 = entry.digest is None
    return entry.is_ours and entry.problem is None and (entry.content_checked or is_format_1)


def _remove_named(path: Path, manifest: Manifest) -> None:
    """Remove the archive that a cancelled chore named at its end, but none that came from elsewhere meanwhile."""
    with suppress(EventVaultError, OSError):
        named = read_manifest(path)
        if (named.store_id, named.created, named.last_sequence) == (
            manifest.store_id, manifest.created, manifest.last_sequence,
        ):  # fmt: skip
            remove_durably(path)


def _remove_unfinished(path: Path) -> None:
    """Remove the temporary file of the archive `path` that a killed chore left; one that fails removes it itself."""
    with suppress(OSError):
        for file in matching(path.parent, f".{path.name}.*{data_folders.TEMPORARY_SUFFIX}"):
            file.unlink()
