"""The archives, which `eventvault.backups` creates, catalogues, checks and removes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from eventvault import clock, data_folders
from eventvault.backups import retention, uploads
from eventvault.backups.archive_totals import TotalsKeeper
from eventvault.backups.archiver import ARCHIVE
from eventvault.backups.catalogue import Catalogue
from eventvault.backups.create import BackupMaker
from eventvault.backups.entry import BackupEntry, Created
from eventvault.backups.installation import ensure_installation
from eventvault.backups.installation_key import renew_key
from eventvault.backups.order import page_of
from eventvault.backups.prune_plan import describe_plan
from eventvault.backups.removal import ArchiveRemover
from eventvault.backups.retention import RetentionPlan
from eventvault.backups.verify import Verifier
from eventvault.chores import Chores
from eventvault.errors import BackupNotFound, Cancelled
from eventvault.kafka.broker_bounds import BrokerBounds
from eventvault.kafka.replayable import holds_all_after
from eventvault.operations.operation import Operation
from eventvault.restore.moments.removal_effect import RemovalEffect
from eventvault.settings import Settings
from eventvault.store.lifecycle import Lifecycle
from eventvault.store.ports.backups import Backups

FREES = "frees"
"""The note of a prune: the archives that it removes, each with the bytes that it frees."""


class BackupsOwner(Backups):
    def __init__(
        self,
        settings: Settings,
        lifecycle: Lifecycle,
        catalogue: Catalogue,
        totals: TotalsKeeper,
        maker: BackupMaker,
        remover: ArchiveRemover,
        verifier: Verifier,
        chores: Chores,
        effect: RemovalEffect,
        broker_bounds: BrokerBounds,
    ) -> None:
        self._settings = settings
        self._lifecycle = lifecycle
        self._catalogue = catalogue
        self._totals = totals
        self._maker = maker
        self._remover = remover
        self._verifier = verifier
        self._chores = chores
        self._effect = effect
        self._broker_bounds = broker_bounds

    def create_backup(self, label: str | None = None, *, operation: Operation | None = None) -> Created:
        operation = operation or Operation()
        self._lifecycle.check()
        created = self._maker.made_before(operation.notes) or self._maker.create(label, operation)
        return msgspec.structs.replace(created, backup=self._remover.with_rules(created.backup))

    def _is_there(self, name: str) -> bool:
        try:
            self._catalogue.entry(name)
        except BackupNotFound:
            return False
        return True

    def list_backups(self, *, limit: int | None = None, before: str | None = None) -> list[BackupEntry]:
        return [self._with_kafka(entry) for entry in page_of(self._totals.entries(), limit, before)]

    def backup_entry(self, name: str) -> BackupEntry:
        entry = self._catalogue.entry(name)
        listed = next((other for other in self._totals.entries() if other.name == name), entry)
        return self._with_kafka(msgspec.structs.replace(entry, retained_by=listed.retained_by))

    def _with_kafka(self, entry: BackupEntry) -> BackupEntry:
        """Add whether Kafka still has the messages that came after the archive, by the brokers' newest answer."""
        bounds = self._broker_bounds.latest()
        if bounds is None:
            return entry
        replayable = holds_all_after(self._catalogue.offsets_of(entry.name), bounds, self._broker_bounds.topics())
        return msgspec.structs.replace(entry, kafka_replayable=replayable)

    def backup_manifest(self, name: str) -> dict[str, Any]:
        return uploads.manifest_of(Path(self._catalogue.entry(name).path))

    def backup_path(self, name: str) -> str:
        return self._catalogue.entry(name).path

    def adopt_upload(self, temporary: str, name: str, *, operation: Operation | None = None) -> BackupEntry:
        path = Path(temporary)
        has_name = (
            operation is not None and uploads.NAMED in operation.notes and (self._settings.backup_dir / name).exists()
        )
        if not has_name and not path.exists() and path.name.startswith(data_folders.HANDED_OVER_PREFIX):
            raise Cancelled(
                f"the upload of {name} was interrupted: its file went with the store that was killed",
                hint="upload it again",
            )
        try:
            entry = uploads.adopt(self._settings, self._catalogue, self._chores, path, name)
        finally:
            if path.name.startswith(data_folders.HANDED_OVER_PREFIX):
                path.unlink(missing_ok=True)
        return self._remover.with_rules(entry)

    def verify_backup(self, name: str, *, records: bool = False) -> BackupEntry:
        return self._remover.with_rules(self._verifier.verify(name, records=records))

    def delete_backup(self, name: str, *, force: bool = False, operation: Operation | None = None) -> None:
        operation = operation or Operation()
        if ARCHIVE in operation.notes and not self._is_there(name):
            return  # an earlier attempt removed it
        self._catalogue.entry(name)
        operation.note(ARCHIVE, name)
        self._remover.delete(name, force=force)

    def plan_deletion(self, name: str) -> dict[str, Any]:
        entry = self._catalogue.entry(name)
        others = [other for other in self._catalogue.entries() if other.name != name]
        return {
            "freesBytes": self._remover.frees([entry, *others], [name])[name],
            "goodLeft": sum(other.origin_proven and other.problem is None for other in others),
            "protectedBy": retention.protection_of([entry, *others], entry),
            **self._effect.describe([entry, *others], [name]),
        }

    def pin_backup(
        self, name: str, *, pinned: bool, reason: str | None = None, until: int | None = None
    ) -> BackupEntry:
        retention.check_end_of_pin(until, clock.now())
        entry = self._catalogue.set_pinned(name, pinned=pinned, reason=reason, until=until)
        return self._remover.with_rules(entry)

    def plan_prune(self) -> dict[str, Any]:
        return self._plan_prune(self._catalogue.entries())[1]

    def prune_backups(self, *, operation: Operation | None = None) -> dict[str, Any]:
        operation = operation or Operation()
        operation.step("plan")
        self._lifecycle.check_started()
        self._maker.check_removal()
        plan, described = self._plan_prune(self._catalogue.entries())
        oldest_first = reversed(described["remove"])
        frees = {**operation.notes.get(FREES, {}), **{entry["name"]: entry["freesBytes"] for entry in oldest_first}}
        operation.step("remove", described["freesBytes"])
        operation.decided()  # a cancel that came later would find some of the archives gone
        operation.note(FREES, frees)
        for names in self._remover.remove_planned(plan):
            self._maker.counts["rotated"] += len(names)
            operation.advance(sum(frees[name] for name in names))
        present = {entry.name for entry in self._catalogue.entries()}
        removed = [name for name in frees if name not in present]
        return {"plan": described, "removed": removed, "freedBytes": sum(frees[name] for name in removed)}

    def _plan_prune(self, entries: list[BackupEntry]) -> tuple[RetentionPlan, dict[str, Any]]:
        plan = self._remover.plan(entries)
        frees = self._remover.frees(entries, plan.removed)
        return plan, {**describe_plan(plan, entries, frees), **self._effect.describe(entries, plan.removed)}

    def renew_key(self) -> int:
        ensure_installation(self._settings, self._catalogue.installation)
        proven = self._catalogue.note_made()
        renew_key(self._settings)
        return proven
