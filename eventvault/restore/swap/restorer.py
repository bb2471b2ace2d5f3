"""Restore and undo while the service runs: prepare beside the live data, then swap; only that makes anybody wait."""

from __future__ import annotations

import functools
import logging
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from eventvault import clock, data_folders
from eventvault.archive.source import open_archive
from eventvault.chores import Chores
from eventvault.database.bus import EventBus
from eventvault.database.generation import StoreIdentity
from eventvault.database.registry import EventRegistry
from eventvault.errors import DatabaseLocked, EventVaultError, RestoreRunning
from eventvault.files import remove_durably
from eventvault.restore import estimate
from eventvault.restore.drop_folder import DroppedFile
from eventvault.restore.space import room_for
from eventvault.restore.swap import carry_over, undo
from eventvault.restore.swap import intent as intents
from eventvault.restore.swap.finish import Settler
from eventvault.restore.swap.intent import Intent
from eventvault.restore.swap.previous import PreviousDatabase, PreviousDatabases
from eventvault.restore.values import Restored
from eventvault.settings import Settings

log = logging.getLogger("BackupManager")

Make = Callable[[Path], dict[str, Any]]


class Restorer(Settler):
    """Restores archives into the database of `bus`; one restore at a time.

    running: what is being restored, and since when in microseconds.
    """

    def __init__(self, settings: Settings, bus: EventBus, chores: Chores, previous: PreviousDatabases) -> None:
        super().__init__(settings, previous)
        self.counts = {"restored": 0, "failed": 0}
        self._bus = bus
        self._chores = chores
        self._under_way = threading.Lock()
        self.running: tuple[str, int] | None = None

    def restore(self, archive: Path, *, staged: bool, operation: str, proven: str | None = None) -> Restored:
        """Restore and apply at once, or stage for the next start of the service.

        operation: a request that was answered already is given the same answer. proven: as `prepare` says.
        Raises RestoreRunning, NoSpace or an ArchiveError; then the live data is as it was.
        """
        prepare = functools.partial(self.prepare, archive, operation, proven=proven)
        return self.run(archive.name, prepare, staged=staged, operation=operation)

    def run(self, source: str, prepare: Callable[[], Intent], *, staged: bool, operation: str) -> Restored:
        """`restore` of whatever `prepare` makes ready."""
        return self._alone(source, operation, lambda: self._restore(source, prepare, staged))

    def undo(self, name: str | None, *, operation: str) -> Restored:
        """Bring back what the newest restore left behind, or the kept database `name`; as `restore` else.

        Raises NothingToUndo, UndoNotFound too.
        """
        return self._alone(name or "what was left behind", operation, lambda: self._undo(name, operation))

    def prepare(self, archive: Path, operation: str, *, inbox: bool = False, proven: str | None = None) -> Intent:
        """Unpack and check beside the live data; what comes back only needs to be decided.

        proven: the SHA-256 of the archive, where every record of it was read before.
        """
        known = self.known()
        arguments = {
            "archive": str(archive),
            "known": msgspec.to_builtins(known[0]) if known else None,
            "proven": proven,
        }
        chore = self._chore("prepare_restore", arguments)

        def make(staging: Path) -> dict[str, Any]:
            # The shared lock keeps rotation away from the archive.
            with open_archive(archive) as held, room_for(archive, self._settings.storage_dir):
                return {"read": held.size, **chore(staging)}

        return self.prepare_by(make, archive.name, known, operation, inbox=archive if inbox else None)

    def prepare_in_place(self, copy: Path) -> Intent:
        """As `prepare`, for the private copy of a foreign database that lies in STORAGE_DIR."""
        make = self._chore("prepare_in_place", {"copy": str(copy)})
        return self.prepare_by(make, data_folders.DATABASE, None, secrets.token_hex(8))

    def apply(self, intent: Intent) -> Intent:
        """Decide the intent and do it, on a database that nobody has open.

        Where it fails before anything was renamed, nothing is left of it: no later start may act on it. Returns the
        intent as it was decided.
        """
        storage, database = self._settings.storage_dir, self._settings.database
        if not (storage / intent.staged).is_dir():
            # An intent without it counts as one whose swap was done already.
            raise EventVaultError(
                f"{storage / intent.staged} is gone before it was used", hint="send the request again"
            )
        intent = undo.with_free_name(storage, intent)
        try:
            intents.write_intent(storage, intent)
            intents.swap_folders(storage, database, intent)
        except BaseException:
            intents.undo(storage, database, intent)
            raise
        return intent

    def verify(self, archive: Path) -> None:
        """Read an archive of any origin from end to end. Raises an ArchiveError, or NoSpace."""
        self._chores.run("check_archive", archive=str(archive), scratch=str(self._settings.storage_dir), records=False)

    def _restore(self, source: str, prepare: Callable[[], Intent], staged: bool) -> Restored:
        if isinstance(self._bus.problem, DatabaseLocked):
            raise self._bus.problem
        log.info("restoring %s", source)
        intent = prepare()
        storage = self._settings.storage_dir
        try:
            if staged:
                intents.drop_staged(storage, intent)
                intents.write_intent(storage, intent, data_folders.STAGED_RESTORE)
                log.info("%s is staged for the next start of the service", source)
                return undo.nothing_left_of(intent.restored)
        except BaseException:
            remove_durably(storage / Path(intent.staged).parts[0])
            raise
        return self._swap(intent, None)

    def _undo(self, name: str | None, operation: str) -> Restored:
        known = self.known()
        target = undo.choose(self._settings.storage_dir, name, known[0] if known else None)
        log.info("bringing back %s", target.name)
        arguments = {
            "kept": str(self._settings.storage_dir / target.name),
            "known": msgspec.to_builtins(known[0]) if known else None,
            "least": target.events or 0,
        }
        with self._previous.pinned(target.name):
            intent = self.prepare_by(self._chore("prepare_undo", arguments), target.name, known, operation)
        return self._swap(msgspec.structs.replace(intent, undone=target.name), target)

    def _swap(self, intent: Intent, target: PreviousDatabase | None) -> Restored:
        """Have the bus swap the databases. What is left behind is looked at when nothing is added to it any more."""
        storage = self._settings.storage_dir
        decided = intent

        def look(registry: EventRegistry) -> None:
            nonlocal decided
            decided = carry_over.leave(storage, intent, registry, target)

        def change() -> None:
            nonlocal decided
            decided = self.apply(decided)

        try:
            self._bus.before_swap()  # so that hardly anything of it is left to do while all wait
            with self.swapping:
                self._bus.swap(change, look)
                self.finish_or_defer(decided)
        except BaseException:
            if intents.read_intent(storage) is None:
                remove_durably(storage / Path(intent.staged).parts[0])
            raise
        return decided.restored

    def _alone(self, source: str, operation: str, work: Callable[[], Restored]) -> Restored:
        """One at a time, and none twice. Nothing begins before what was done is noted."""
        self.settle_pending()
        last = intents.read_last(self._settings.storage_dir)
        if last is not None and last.operation == operation:
            return last.restored
        if not self._under_way.acquire(blocking=False):
            other = self.running[0] if self.running else "something"
            raise RestoreRunning(
                f"a restore of {other} is under way", hint="wait: jobs.restore in GET /api/health", running=other
            )
        try:
            self.running = source, clock.now()
            restored = work()
            self.counts["restored"] += 1
        except BaseException:
            self.counts["failed"] += 1
            raise
        finally:
            self.running = None
            self._under_way.release()
        return restored

    def known(self) -> tuple[StoreIdentity, int] | None:
        """The identity and last sequence of what will be left behind; None where there is nothing readable."""
        registry = self._bus.registry
        if registry is not None:
            return registry.identity, registry.last_sequence
        return carry_over.standing(self._settings.storage_dir, self._settings.database)

    def _chore(self, name: str, arguments: dict[str, Any]) -> Make:
        return lambda staging: self._chores.run(name, staging=str(staging), **arguments)

    def prepare_by(
        self,
        make: Make,
        source: str,
        known: tuple[StoreIdentity, int] | None,
        operation: str,
        *,
        reason: str = "restored",
        inbox: Path | None = None,
    ) -> Intent:
        """`prepare` with whatever makes the database in the folder that it is given, and answers as a chore does.

        source: what is restored, where the answer has no `source` that says it better. How long it takes to make is
        kept for predictions where the answer says how many bytes were `read`.
        """
        began = clock.now()
        waiting = intents.read_intent(self._settings.storage_dir, data_folders.STAGED_RESTORE)
        arrived = DroppedFile.at(inbox) if inbox else None
        staging = self._settings.storage_dir / f"{data_folders.RESTORING_PREFIX}{secrets.token_hex(4)}"
        try:
            answer = make(staging)
        except BaseException:
            remove_durably(staging)
            raise
        if "read" in answer:
            estimate.note(self._settings.storage_dir, answer["read"], (clock.now() - began) / 1e6)
        source = answer.get("source", source)
        restored = Restored(
            source=source,
            at=clock.now(),
            events=answer["events"],
            not_json=answer["notJson"],
            duration=(clock.now() - began) // 1000,
            generation=answer["generation"],
            notes=[*answer["notes"], *intents.dropped(waiting)],
            reason=reason,
        )
        left = carry_over.expected(known, restored)
        intent = Intent(
            staged=f"{staging.name}/{data_folders.DATABASE}",
            kept=left.name,
            operation=operation,
            restored=restored,
            inbox=str(inbox) if inbox else None,
            arrived=arrived,
            drops=waiting.staged if waiting else None,
        )
        return undo.with_left(intent, left) if self._settings.database.exists() else intent
