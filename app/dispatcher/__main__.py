"""`python -m app.dispatcher`: takes `jobs.lock`, opens `jobs_db`, listens on `jobs.sock` and runs the local worker.

`eventvault/exit_statuses.py` has its exit statuses.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
import threading
import time

from app.dispatcher.local_worker import LocalWorker
from app.dispatcher.opening import Opening
from eventvault import __version__, clock, data_folders
from eventvault.clock_guard import ClockGuard
from eventvault.damage import SYSTEM_ERRORS
from eventvault.database.unreadable_tables import distrust_tables
from eventvault.errors import EventVaultError
from eventvault.exit_statuses import DONE, FAILED, INVALID_SETTINGS
from eventvault.jobs import wire
from eventvault.jobs.lease import tick_seconds
from eventvault.jobs.server import JobsServer
from eventvault.jobs.socket_transport import SocketTransport
from eventvault.settings import Settings
from eventvault.store.process import MASTER_VARIABLE
from eventvault.store.process.beginning import settings_of_process
from eventvault.store.process.detached import report_failure, report_listening
from eventvault.store.process.ending import end_if_useless, end_stuck, end_within, ending
from eventvault.store.process.ownership import ACQUIRE_SECONDS, OwnerLock, master_lives
from eventvault.store.watchdog import Watchdog
from eventvault.system_errors import reason_of
from eventvault.unforeseen import Unforeseen

log = logging.getLogger("jobs")

STOP_SECONDS = 20.0
"""How long a dispatcher may take to end once it is asked to."""
FOLLOW_SECONDS = 1.0
"""Seconds between two checks whether the store believes the system clock again."""
CLOSE_SECONDS = 5.0
"""The part of STOP_SECONDS for closing transport and database: before, a write of unfinished jobs is given up."""


def main() -> int:
    arguments = _arguments()
    settings = settings_of_process()
    if settings is None:
        return INVALID_SETTINGS
    lock = OwnerLock(
        settings.storage_dir,
        data_folders.JOBS_LOCK,
        socket=data_folders.JOBS_SOCKET,
        database=data_folders.JOBS_DATABASE,
    )
    try:
        if not lock.acquire(ACQUIRE_SECONDS):
            log.info("another process owns the jobs: it holds %s", settings.storage_dir / data_folders.JOBS_LOCK)
            return DONE
        if not master_lives(os.environ.get(MASTER_VARIABLE)):
            log.info("no dispatcher is started, as the service that it belongs to has ended")
            return DONE
        if arguments.distrust_tables:
            distrust_tables()
        _serve(settings, lock, arguments.service)
    except (EventVaultError, *SYSTEM_ERRORS) as error:
        reason = f"the dispatcher of jobs cannot start: {reason_of(error)}"
        log.error("%s", reason)  # noqa: TRY400 - what the system says needs no traceback
        report_failure(reason)
        return FAILED
    return DONE


def _follow_clock(guard: ClockGuard) -> None:
    unforeseen = Unforeseen("the look at the clock that the store believes", log)
    while True:
        time.sleep(FOLLOW_SECONDS)
        with unforeseen.survived():
            guard.follow()


def _serve(settings: Settings, lock: OwnerLock, service: str) -> None:
    guard = ClockGuard(settings.storage_dir)  # otherwise a leap ahead would run delayed jobs and remove finished ones
    clock.use(guard.now)
    threading.Thread(target=_follow_clock, args=(guard,), name="clock", daemon=True).start()
    transport = SocketTransport(tick_seconds())
    worker = LocalWorker(settings, service)
    opening = Opening(settings, transport, worker.problems)
    server = JobsServer(
        opening.jobs,
        lambda: wire.DispatcherHello(
            wire.PROTOCOL, __version__, os.getpid(), service, opening.dispatcher.seconds_without_turn()
        ),
        transport.attach,
        owns=lock.holds,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.end())
    Watchdog(0, end_stuck).start()
    end_if_useless()
    with ending("dispatcher", log):
        opening.start(worker.start)
        log.info("dispatcher process %s serves the jobs of %s", os.getpid(), settings.storage_dir)
        server.serve(settings.storage_dir, report_listening)
        end_within(STOP_SECONDS)
        until = time.monotonic() + STOP_SECONDS - CLOSE_SECONDS
        worker.stop()
        opening.stop(until)
        server.drain()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m app.dispatcher", description="Own the jobs and hand them to workers. The store starts it."
    )
    parser.add_argument("--service", default="", help="the id of the service start that it belongs to")
    parser.add_argument("--distrust-tables", action="store_true", help="read the tables before they are opened")
    return parser.parse_args()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
