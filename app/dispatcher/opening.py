"""Opens the dispatcher in a thread, and retries after a failure. Until then, requests get the reason."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable

from eventvault import data_folders
from eventvault.backups.installation_folder import check_folder
from eventvault.backups.storage_mount import check_mounted
from eventvault.damage import SYSTEM_ERRORS
from eventvault.errors import EventVaultError, JobsUnavailable
from eventvault.jobs.database import JobsDatabase, answer_to
from eventvault.jobs.dispatcher import Dispatcher
from eventvault.jobs.inputs import answer_of
from eventvault.jobs.joined_transport import JoinedTransport
from eventvault.jobs.local_jobs import LocalJobs
from eventvault.jobs.queue import QueueLimits
from eventvault.jobs.submissions import BUILT_IN
from eventvault.jobs.transport import DispatcherTransport
from eventvault.jobs.unfinished import UnfinishedFile
from eventvault.problems import CHECK_DISK, Problem, damaged_file
from eventvault.settings import Settings
from eventvault.small_files import QuarantinedFiles, name_before
from eventvault.store.watchdog import stuck_problems

log = logging.getLogger("jobs")

AGAIN_SECONDS = 2.0
_WAIT_SECONDS = 5.0
"""How long a request waits for a database that is being opened."""
_DEAD_STAY = 3
"""Dead jobs stay this many times as long as other finished jobs."""


class Opening:
    """A dispatcher over the `jobs_db` of these settings, and the file of its unfinished jobs.

    problems: returns further problems for health.
    """

    def __init__(
        self, settings: Settings, transport: DispatcherTransport, problems: Callable[[], list[Problem]] = list
    ) -> None:
        self._settings = settings
        self._further_problems = problems
        unfinished = settings.backup_dir / data_folders.JOBS / data_folders.UNFINISHED_JOBS
        self._quarantined = QuarantinedFiles([unfinished.parent, settings.storage_dir])
        database = JobsDatabase(settings.storage_dir / data_folders.JOBS_DATABASE)
        joined = _with_kafka(settings, transport, database) if settings.kafka_bootstrap_servers else transport
        self.dispatcher = Dispatcher(database, joined, _limits(settings), unfinished=unfinished)
        self._unfinished = UnfinishedFile(
            unfinished, database, self.dispatcher.version, check=lambda: check_folder(settings)
        )
        self._jobs: LocalJobs | None = None
        self._problem: EventVaultError = JobsUnavailable(
            "the dispatcher of jobs is opening its database", hint="send the request again in a moment"
        )
        self._tried = threading.Event()
        self._stopping = threading.Event()

    def start(self, on_open: Callable[[], None]) -> None:
        """Begin to open the dispatcher. on_open: called once, when jobs are served."""
        threading.Thread(target=self._open, args=(on_open,), name="opening", daemon=True).start()

    def jobs(self) -> LocalJobs:
        """Return the port; while the disk refuses to open the database, it can only read. Raises why it is closed."""
        self._tried.wait(_WAIT_SECONDS)
        if self._jobs is not None:
            return self._jobs
        if self.dispatcher.database.is_readable:
            return LocalJobs(self.dispatcher)
        raise self._problem

    def stop(self, until: float) -> None:
        """Write the unfinished jobs and close the database. until: when the writing is given up (monotonic)."""
        self._stopping.set()
        self._unfinished.stop()
        if self._jobs is not None:
            self._unfinished.write_if_changed(lambda: time.monotonic() >= until)
            self.dispatcher.stop()
        else:
            with contextlib.suppress(EventVaultError):
                self.dispatcher.database.close()

    def _open(self, on_open: Callable[[], None]) -> None:
        while not self._stopping.is_set():
            try:
                if not self.dispatcher.database.folder.exists():
                    check_mounted(self._settings)  # so that no database is created under a mount point
                self.dispatcher.open()
            except (EventVaultError, *SYSTEM_ERRORS) as error:
                self._note(answer_to("opening the database of jobs", error))
            except Exception as error:
                log.exception("the dispatcher of jobs could not be opened; it is retried")
                self._note(answer_of(error))
            else:
                self.dispatcher.start()
                self._unfinished.start()
                self._jobs = LocalJobs(self.dispatcher, problems=self._problems)
                self._tried.set()
                on_open()
                return
            self._tried.set()
            self._stopping.wait(AGAIN_SECONDS)

    def _problems(self) -> list[Problem]:
        unwritten = self._unfinished.problem
        return [
            *self._further_problems(),
            *([] if unwritten is None else [unwritten]),
            *_damaged_files(self._quarantined),
            *stuck_problems(),
        ]

    def _note(self, error: EventVaultError) -> None:
        if str(error) != str(self._problem):
            log.error("%s (%s)", error, error.hint)
        self._problem = error


_LOSSES = {
    data_folders.UNFINISHED_JOBS: (
        "the undamaged part of it was taken over",
        "check the held jobs, because some may be missing or wrong; then remove the damaged file",
    ),
    data_folders.JOBS_WORKER: (
        "an earlier worker may go on for a while beside the new one",
        CHECK_DISK,
    ),
}
"""Name of a small file of jobs → the effect of its loss, and what to do."""


def _damaged_files(quarantined: QuarantinedFiles) -> list[Problem]:
    files = [(path, name_before(path)) for path in quarantined.present()]
    return [damaged_file(path, *_LOSSES[name]) for path, name in files if name in _LOSSES]


def _with_kafka(settings: Settings, local: DispatcherTransport, database: JobsDatabase) -> JoinedTransport:
    """Return one transport for the local worker and for workers over Kafka. It loads the Kafka client."""
    from eventvault.kafka.jobs.dispatcher_transport import KafkaTransport

    return JoinedTransport(
        local,
        lambda wake: KafkaTransport(
            settings, lambda: database.dispatcher, tick_seconds=local.tick_seconds, on_arrival=wake
        ),
    )


def _limits(settings: Settings) -> QueueLimits:
    keep = settings.jobs_keep.microseconds
    return QueueLimits(
        keep=keep,
        keep_dead=_DEAD_STAY * keep,
        keep_max=settings.jobs_keep_max,
        unknown_after=settings.jobs_unknown_after.microseconds,
        publishes=bool(settings.kafka_bootstrap_servers),
        refused_from_kafka=BUILT_IN - set(settings.jobs_from_kafka),
    )
