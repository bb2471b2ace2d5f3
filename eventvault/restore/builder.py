"""The third step of a restore: build the new database beside the live one, and describe its swap as an intent."""

from __future__ import annotations

import secrets
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from eventvault import clock, data_folders
from eventvault.archive import reader
from eventvault.archive.source import open_archive
from eventvault.backups.entry import BackupEntry
from eventvault.backups.installation_key import check_readable
from eventvault.chores import Chores
from eventvault.database.bus import EventBus
from eventvault.database.generation import UNDONE
from eventvault.errors import ArchiveError, DatabaseDamaged
from eventvault.files import removing_on_failure
from eventvault.kafka import offsets
from eventvault.kafka.offsets import Offsets
from eventvault.kafka.replayable import ArchivedOffsets
from eventvault.operations.operation import current
from eventvault.restore import estimate
from eventvault.restore.drop_folder import DroppedFile
from eventvault.restore.moments.build import MomentBuilder
from eventvault.restore.moments.offsets_of_moment import live_offsets, read_again_from
from eventvault.restore.moments.plan import Plan, Sources
from eventvault.restore.moments.planner import PlannedMoment
from eventvault.restore.space import room_for, unpacked_bytes
from eventvault.restore.swap import carry_over, in_place, undo
from eventvault.restore.swap import intent as intents
from eventvault.restore.swap.carry_over import ReplacedHead
from eventvault.restore.swap.intent import Intent
from eventvault.restore.swap.previous import PreviousDatabase, PreviousDatabases
from eventvault.restore.unpacked import ArchiveFacts
from eventvault.restore.unproven import ReplacedDatabase
from eventvault.restore.values import POINT_IN_TIME, RECOVERED, Restored, RestoredMoment
from eventvault.settings import Settings


class ArchiveSource(msgspec.Struct, frozen=True):
    """An archive of any origin. verified: its checksum, if the content of those bytes was read before.

    sequence: of its last event, if that is known.
    """

    path: Path
    verified: str | None = None
    sequence: int | None = None


class LostDatabase(msgspec.Struct, frozen=True):
    """What a lost database is rebuilt from. kafka: the offsets at the end of the plan, if they are newer.

    published: no event up to this one waits to be published.
    """

    plan: Plan
    sources: Sources
    kafka: Offsets
    published: int = 0


class ForeignCopy(msgspec.Struct, frozen=True):
    """A private copy, in STORAGE_DIR, of another program's database."""

    path: Path


BuildSource = ArchiveSource | PlannedMoment | PreviousDatabase | LostDatabase | ForeignCopy
"""What a database is built from."""


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """A database that was built. bytes_read: None if its duration must not count for predictions.

    answer: of the child process that built it, with `seconds` by part, `open` included.
    """

    source: str
    answer: dict[str, Any]
    bytes_read: int | None = None
    reason: str = "restored"
    moment: RestoredMoment | None = None
    undone: str | None = None
    replay: bool = False


class Builder:
    """Builds databases below STORAGE_DIR in child processes; the live database is only read."""

    def __init__(
        self, settings: Settings, bus: EventBus, chores: Chores, previous: PreviousDatabases, moments: MomentBuilder
    ) -> None:
        self._settings = settings
        self._bus = bus
        self._chores = chores
        self._previous = previous
        self._moments = moments

    def read_head(self) -> ReplacedHead | None:
        """The head of the live database, which a restore replaces; None if it is missing or cannot be read."""
        registry = self._bus.registry
        if registry is not None:
            return ReplacedHead(registry.identity, registry.last_sequence)
        return carry_over.read_head(self._settings.storage_dir, self._settings.database)

    def build(
        self,
        wanted: BuildSource,
        head: ReplacedHead | None,
        operation: str,
        *,
        began: float | None = None,
        drop_file: Path | None = None,
        replay: bool = False,
    ) -> Intent:
        """Build a database, checked and synced, and return the intent that would swap it in; nothing is decided.

        head: of the database that it replaces. began: when the restore began, in monotonic seconds (default: now).
        drop_file: the archive, if it is in `restore/`. replay: Kafka's topics are read again from the moment on.
        Raises NoSpace or an ArchiveError; then nothing remains of it.
        """
        began = time.monotonic() if began is None else began
        storage = self._settings.storage_dir
        in_place.check_link(self._settings.database)
        waiting = intents.read_intent(storage, data_folders.STAGED_RESTORE)
        arrived = DroppedFile.at(drop_file) if drop_file else None
        staging = storage / f"{data_folders.RESTORING_PREFIX}{secrets.token_hex(4)}"
        built = self.build_and_open(wanted, staging, head, replay=replay)
        if self._bus.registry is None:
            with removing_on_failure(staging):
                self._moments.add_unpublished(staging / data_folders.DATABASE)
        if built.bytes_read is not None:
            estimate.note(storage, built.bytes_read, time.monotonic() - began)
        restored = _describe(built, began, intents.notes_of_discarded(waiting))
        previous = carry_over.describe_previous(head, restored)
        intent = Intent(
            new_database=f"{staging.name}/{data_folders.DATABASE}",
            previous_name=previous.name,
            operation=operation,
            restored=restored,
            drop_file=str(drop_file) if drop_file else None,
            arrived=arrived,
            undone=built.undone,
            discards=waiting.new_database if waiting else None,
        )
        return undo.with_previous(intent, previous) if self._settings.database.exists() else intent

    def build_and_open(
        self, wanted: BuildSource, staging: Path, head: ReplacedHead | None, *, replay: bool = False
    ) -> Built:
        """Build the database in the new folder `staging`, and open it once. Raises as `build`.

        It is opened in a child process: a database that kills it must not kill the store.
        """
        with removing_on_failure(staging):
            match wanted:
                case ArchiveSource():
                    built = self._from_archive(wanted, staging, head)
                case PlannedMoment():
                    built = self._from_moment(wanted, staging, head, replay=replay)
                case PreviousDatabase():
                    built = self._from_previous(wanted, staging, head)
                case LostDatabase():
                    built = self._from_sources(wanted, staging)
                case ForeignCopy():
                    answer = self._chores.run("prepare_in_place", copy=str(wanted.path), staging=str(staging))
                    built = Built(source=data_folders.DATABASE, answer=answer)
            began = time.monotonic()
            current().step("open")
            self._chores.run(
                "check_opening",
                database=str(staging / data_folders.DATABASE),
                source=built.source,
                events=built.answer["events"],
                generation=built.answer["generation"],
            )
            seconds = {**built.answer.get("seconds", {}), "open": time.monotonic() - began}
        return msgspec.structs.replace(built, answer={**built.answer, "seconds": seconds})

    def disk_needed(self, wanted: ArchiveSource | PlannedMoment) -> int:
        """Return about how many bytes the database needs at most in STORAGE_DIR while it is built."""
        if isinstance(wanted, PlannedMoment):
            return self._moments.disk_needed(wanted.plan)
        return unpacked_bytes(wanted.path)

    def find_origin(self, database: Path) -> str:
        """Return who wrote a database that was found in STORAGE_DIR: `ours`, `foreign`, or `unknown`.

        Raises DatabaseLocked if another program has it open, DatabaseDamaged if it cannot be read.
        """
        try:
            origin: str = self._chores.run("find_origin", folder=str(database))["origin"]
        except ArchiveError as error:
            raise DatabaseDamaged(
                f"{database} cannot be read: {error.message}",
                hint="it stays as it is; restore a good archive of it with POST /api/backup/restore",
            ) from error
        return origin

    def verify(self, archive: Path) -> None:
        """Read an archive of any origin from end to end. Raises an ArchiveError, or NoSpace."""
        self._chores.run(
            "check_archive", archive=str(archive), scratch=str(self._settings.storage_dir), depth="members"
        )

    def _from_archive(self, archive: ArchiveSource, staging: Path, head: ReplacedHead | None) -> Built:
        path = archive.path
        check_readable(self._settings)
        facts = ArchiveFacts(verified=archive.verified, proof=self._moments.proof())
        # The shared lock protects the archive from rotation.
        with open_archive(path) as file, room_for(path, self._settings.storage_dir):
            answer = self._chores.run(
                "prepare_restore",
                archive=str(path),
                staging=str(staging),
                replaces=self._replaced(head),
                facts=msgspec.to_builtins(facts),
            )
        return Built(source=path.name, answer=answer, bytes_read=file.size)

    def _replaced(self, head: ReplacedHead | None) -> dict[str, Any] | None:
        """Describe the database that is replaced for `prepare_restore`. Offsets that cannot be read count as none."""
        if head is None:
            return None
        kafka = self._live_offsets(head)
        replaced: dict[str, Any] = msgspec.to_builtins(ReplacedDatabase(head.identity, kafka or {}))
        return replaced

    def _live_offsets(self, head: ReplacedHead | None) -> Offsets | None:
        """Return the offsets of the database that is replaced; None without one, or if they cannot be read."""
        if head is None:
            return None
        return offsets.read_or_empty(head.kafka) if self._bus.registry is None else live_offsets(self._bus)

    def _from_moment(self, planned: PlannedMoment, staging: Path, head: ReplacedHead | None, *, replay: bool) -> Built:
        live = self._live_offsets(head)  # before the build: the quarantine may only grow meanwhile
        planned, answer = self._moments.build(planned, staging, POINT_IN_TIME)
        if replay:
            archived = offsets_in(planned.plan.archive)
            choose = partial(
                read_again_from, planned.plan, planned.sources, answer["sequence"], archived=archived, live=live
            )
            carry_over.replace_offsets(staging / data_folders.DATABASE, choose)
        return Built(
            source=planned.plan.source,
            answer=answer,
            bytes_read=self._moments.bytes_to_read(planned.plan),
            reason=POINT_IN_TIME,
            moment=RestoredMoment(answer["sequence"], planned.moment.instant or answer["recorded"] or None),
            replay=replay,
        )

    def _from_sources(self, lost: LostDatabase, staging: Path) -> Built:
        answer = self._moments.execute(lost.plan, staging, lost.sources, RECOVERED, lost.kafka, lost.published)
        return Built(source=lost.plan.source, answer=answer, reason=RECOVERED)

    def _from_previous(self, previous: PreviousDatabase, staging: Path, head: ReplacedHead | None) -> Built:
        with self._previous.pinned(previous.name):
            answer = self._chores.run(
                "prepare_undo",
                previous=str(self._settings.storage_dir / previous.name),
                staging=str(staging),
                replaces=_identity_of(head),
                min_events=previous.events or 0,
            )
        return Built(source=previous.name, answer=answer, reason=UNDONE, undone=previous.name)


def offsets_in(archive: BackupEntry | None) -> Offsets:
    """Return the offsets that the manifest of an archive has; none if it cannot be read."""
    with suppress(ArchiveError, OSError):
        manifest = None if archive is None else reader.read_manifest(Path(archive.path))
        archived = None if manifest is None else ArchivedOffsets.of(manifest.kafka, manifest.kafka_topics)
        return {} if archived is None else archived.as_offsets()
    return {}


def _identity_of(head: ReplacedHead | None) -> dict[str, Any] | None:
    return msgspec.to_builtins(head.identity) if head else None


def _describe(built: Built, began: float, notes: list[str]) -> Restored:
    return Restored(
        source=built.source,
        at=clock.now(),
        events=built.answer["events"],
        not_json=built.answer["notJson"],
        duration=round((time.monotonic() - began) * 1000),
        generation=built.answer["generation"],
        notes=[*built.answer["notes"], *notes],
        reason=built.reason,
        moment=built.moment,
        checked=built.answer.get("checked"),
        proven=built.answer["proven"],
        replay=built.replay,
    )
