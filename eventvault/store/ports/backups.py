"""The port to the archives in `BACKUP_DIR`."""

from __future__ import annotations

from typing import Any, Protocol

from eventvault.backups.entry import BackupEntry, Created
from eventvault.rpc.markers import audited, changes, operation


class Backups(Protocol):
    @changes
    @operation("create")
    @audited("create")
    def create_backup(self, label: str | None = None) -> Created:
        """Back up now; every event acknowledged before the call is inside. Raises NoSpace."""

    def list_backups(self, *, limit: int | None = None, before: str | None = None) -> list[BackupEntry]:
        """Return the archives, newest first. limit: at most so many. before: only older ones than this.

        If there are more than 300, listing them takes at most a twentieth of the time: an archive that another program
        copies in or removes may show some seconds later. Raises InvalidInput if there is no archive `before`.
        """

    def backup_entry(self, name: str) -> BackupEntry:
        """Return one archive. Raises BackupNotFound."""

    def backup_manifest(self, name: str) -> dict[str, Any]:
        """Return the archive's `manifest.json`; an empty dict for a foreign archive. Raises BackupNotFound."""

    def backup_path(self, name: str) -> str:
        """Return the absolute path of the archive, for reading. Raises BackupNotFound."""

    @changes
    @operation("upload")
    @audited("upload")
    def adopt_upload(self, temporary: str, name: str) -> BackupEntry:
        """Check the archive `temporary` (a synced file in `BACKUP_DIR`) and enter it as `name`.

        Raises BackupExists, NoSpace, or an ArchiveError that says what is wrong. Then this archive does not have the
        name, and the caller removes `temporary` if it still exists; the store removes a file that was handed over.
        """

    @changes
    @operation("verify")
    def verify_backup(self, name: str, *, records: bool = False) -> BackupEntry:
        """Check an archive from end to end: checksums, LevelDB's own, every record, the sequence, the counts.

        If an archive was made here and its tables were checked then, only its digests are checked, unless `records`
        asks for all. `checked` of the entry says which. Raises BackupNotFound, NoSpace, or an ArchiveError that says
        what is wrong. An archive that fails is marked damaged and no longer counts as good.
        """

    @changes
    @audited("delete")
    def delete_backup(self, name: str, *, force: bool = False) -> None:
        """Remove an archive.

        Raises BackupNotFound, or BackupProtected for an archive that is being read, and without `force` also for a
        pinned archive and the last good one.
        """

    def plan_deletion(self, name: str) -> dict[str, Any]:
        """Return what `delete_backup` would do, as the members of `plan` in the API. Changes nothing.

        Raises BackupNotFound.
        """

    @changes
    @audited("pin")
    def pin_backup(
        self, name: str, *, pinned: bool, reason: str | None = None, until: int | None = None
    ) -> BackupEntry:
        """Pin or unpin an archive; rotation never removes a pinned one.

        until: when the pin ends, in microseconds. Raises BackupNotFound, or InvalidInput if `until` is over.
        """

    def plan_prune(self) -> dict[str, Any]:
        """Return what `prune_backups` would do, as the members of `plan` in the API. Changes nothing."""

    @changes
    @operation("prune")
    @audited("prune")
    def prune_backups(self) -> dict[str, Any]:
        """Remove the archives that no rule keeps. Returns `plan`, `removed` (names) and `freedBytes`.

        Raises an error that makes the database or its newest backup doubtful: then only older archives may be good.
        """

    @changes
    @audited("trust")
    def renew_key(self) -> int:
        """Make a new key for this installation; the old one proves nothing any more.

        Archives that were proven before stay proven, by the catalogue. Returns their number. Raises BackupsChanged,
        BackupsUnavailable or NoSpace; after the last two the old key stays, or the next backup completes the change.
        """
