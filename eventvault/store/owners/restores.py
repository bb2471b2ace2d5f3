"""Restores and undo, which `eventvault.restore` does; afterwards the store serves the restored database."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from eventvault import clock
from eventvault.backups.catalogue import Catalogue
from eventvault.database.bus import EventBus
from eventvault.errors import Cancelled, DiskFailed, EventVaultError, NoSpace, StoreRestoring, TooBusy
from eventvault.jobs.port import Jobs
from eventvault.kafka.broker_bounds import BrokerBounds
from eventvault.operations.operation import Operation
from eventvault.restore.builder import ArchiveSource
from eventvault.restore.moments.preview import RestorePreview
from eventvault.restore.moments.timeline import Timeline
from eventvault.restore.restorer import Restorer, UndoRequest
from eventvault.restore.swap import undo
from eventvault.restore.values import Moment, PreviousEntry, Restored
from eventvault.settings import Settings
from eventvault.store.jobs_of_restore import check_jobs, count_jobs, with_jobs
from eventvault.store.kafka_of_restore import check_replay, describe_kafka
from eventvault.store.lifecycle import Lifecycle
from eventvault.store.ports.restores import Restores

log = logging.getLogger("BackupManager")

DECIDED_SECONDS = 10.0
"""How long a request waits for a restore that is decided but that a disk keeps from ending."""
_POLL_SECONDS = 0.1


class RestoresOwner(Restores):
    def __init__(
        self,
        settings: Settings,
        lifecycle: Lifecycle,
        bus: EventBus,
        catalogue: Catalogue,
        restorer: Restorer,
        timeline: Timeline,
        preview: RestorePreview,
        jobs: Jobs | None,
        broker_bounds: BrokerBounds,
    ) -> None:
        self._settings = settings
        self._lifecycle = lifecycle
        self._bus = bus
        self._catalogue = catalogue
        self._restorer = restorer
        self._timeline = timeline
        self._preview = preview
        self._jobs = jobs
        self._broker_bounds = broker_bounds

    def restore(
        self, name: str, *, staged: bool = False, cancel_jobs: bool = False, operation: Operation | None = None
    ) -> Restored:
        operation = operation or Operation()
        check_jobs(self._jobs, cancel=cancel_jobs, staged=staged)
        created: int | None = None

        def work() -> Restored:
            nonlocal created
            entry = self._catalogue.entry(name)
            created = entry.created
            verified = entry.checksum if entry.content_checked else None
            archive = ArchiveSource(Path(entry.path), verified, entry.sequence)
            return self._restorer.restore(archive, staged=staged, operation=operation.id)

        restored = self._serving_afterwards(work, operation)
        return with_jobs(self._jobs, restored, created, cancel=cancel_jobs)

    def restore_moment(
        self,
        moment: Moment,
        *,
        staged: bool = False,
        cancel_jobs: bool = False,
        replay: bool = False,
        operation: Operation | None = None,
    ) -> Restored:
        operation = operation or Operation()
        check_jobs(self._jobs, cancel=cancel_jobs, staged=staged)
        self._check_replay(replay=replay)
        restored = self._serving_afterwards(
            lambda: self._restorer.restore(moment, staged=staged, replay=replay, operation=operation.id), operation
        )
        reached = None if restored.moment is None else restored.moment.time
        return with_jobs(self._jobs, restored, reached, cancel=cancel_jobs)

    def undo(self, name: str | None = None, *, operation: Operation | None = None) -> Restored:
        operation = operation or Operation()
        return self._serving_afterwards(
            lambda: self._restorer.restore(UndoRequest(name), operation=operation.id), operation
        )

    def list_undo(self) -> list[PreviousEntry]:
        return undo.list_undo(self._settings.storage_dir)

    def plan_restore(self, target: Moment | str, *, replay: bool = False) -> dict[str, Any]:
        self._check_replay(replay=replay)
        described = self._preview.describe(target)
        if isinstance(target, str):
            instant: int | None = self._catalogue.entry(target).created
        else:
            instant = target.instant or (None if described["time"] is None else clock.parse(described["time"]))
        again = replay or isinstance(target, str)
        kafka = describe_kafka(self._broker_bounds, lambda: self._preview.offsets_at(target), again=again)
        return {**described, "unfinishedJobs": count_jobs(self._jobs, instant), "kafka": kafka}

    def _check_replay(self, *, replay: bool) -> None:
        check_replay(replay=replay, is_configured=bool(self._settings.kafka_bootstrap_servers))

    def timeline(self, *, buckets: int | None = None) -> dict[str, Any]:
        return self._timeline.describe(buckets)

    def _serving_afterwards(self, work: Callable[[], Restored], operation: Operation) -> Restored:
        self._lifecycle.check_started()
        try:
            restored = work()
        except StoreRestoring as error:
            return self._await_decided(operation, error)
        if not restored.staged:
            try:
                self._lifecycle.serve()
            except (NoSpace, TooBusy, DiskFailed) as error:
                return self._await_decided(operation, _not_open_yet(restored, error))
            except Cancelled:
                log.info("the store is stopping; the next one opens what was restored")
        return restored

    def _await_decided(self, operation: Operation, error: StoreRestoring) -> Restored:
        """Wait until the store has finished a restore that is decided. Raises `error` after DECIDED_SECONDS."""
        deadline = time.monotonic() + DECIDED_SECONDS
        while time.monotonic() < deadline:
            if self._lifecycle.refusal() is None and not self._bus.is_read_only and self._bus.registry is not None:
                restored = self._restorer.answer_of(operation.id)
                if restored is not None:
                    return restored
            time.sleep(_POLL_SECONDS)
        raise error


def _not_open_yet(restored: Restored, error: EventVaultError) -> StoreRestoring:
    return StoreRestoring(f"{restored.source} was restored, but cannot be served yet: {error.message}", hint=error.hint)
