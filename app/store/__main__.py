"""`python -m app.store`: takes `owner.lock`, listens on the socket, then runs pending restores and serves.

`eventvault/exit_statuses.py` has its exit statuses.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import secrets
import signal
import sys
import threading
from pathlib import Path

import eventvault
from app.dispatcher import COMMAND as DISPATCHER
from app.freed_memory import bound_freed_memory
from eventvault import clock, data_folders, folder_abilities
from eventvault.backups.schedule import Scheduler
from eventvault.clock_guard import ClockGuard
from eventvault.damage import SYSTEM_ERRORS
from eventvault.database.unreadable_tables import distrust_tables
from eventvault.errors import EventVaultError, InvalidSettings
from eventvault.exit_statuses import DONE, FAILED, INVALID_SETTINGS
from eventvault.jobs.client import JobsClient
from eventvault.kafka.start_check import check_kafka_settings
from eventvault.notifications.receivers import check_addresses
from eventvault.settings import Settings
from eventvault.store.process import MASTER_VARIABLE
from eventvault.store.process.beginning import collect_seldom, settings_of_process
from eventvault.store.process.detached import report_failure, report_listening
from eventvault.store.process.dispatcher import DispatcherKeeper
from eventvault.store.process.ending import end_if_useless, end_stuck, end_within, ending
from eventvault.store.process.last_words import is_bus_error, prepare_last_words, read_last_words, stuck_in_a_row
from eventvault.store.process.ownership import (
    ACQUIRE_SECONDS,
    OwnerLock,
    master_lives,
    remember_starts,
    service_runs,
    starts_to_serve,
    watched_master,
)
from eventvault.store.process.spawn import SPAWNER_VARIABLE
from eventvault.store.rpc import wire
from eventvault.store.rpc.server import StoreServer
from eventvault.store.service import StoreService
from eventvault.store.watchdog import Watchdog
from eventvault.system_errors import reason_of

log = logging.getLogger("BackupManager")

STOP_SECONDS = 20.0
"""Seconds within which a store that was asked to end must end. Its parts have shorter deadlines."""
_SWITCH_SECONDS = 1e-3
_FREED_BYTES = 8 * 2**20
"""More than a commit or a page of events takes, if those are not large."""


def main() -> int:
    arguments = _arguments()
    settings = settings_of_process()
    if settings is None:
        return INVALID_SETTINGS
    if arguments.mode == "command" and settings.log_level == "info":
        logging.getLogger().setLevel(logging.WARNING)  # the command itself reports what is done
    sys.setswitchinterval(_SWITCH_SECONDS)
    bound_freed_memory(_FREED_BYTES)
    try:
        folder_abilities.prepare_folders(settings)
        if arguments.mode == "standalone":
            check_addresses(settings)
            check_kafka_settings(settings)
        lock = OwnerLock(settings.storage_dir)
        refusal = _refusal(arguments, settings, lock)
        if refusal:
            log.info("%s", refusal)
            report_failure(refusal)
            return DONE
        Watchdog(_heed_last_words(settings.storage_dir), end_stuck).start()
        end_if_useless()
        _serve(settings, lock, arguments.service or f"standalone-{secrets.token_hex(8)}", arguments.mode)
    except InvalidSettings as error:
        log.error("%s (%s)", error, error.hint)  # noqa: TRY400 - a hint instead of a traceback
        report_failure(error.message)
        return INVALID_SETTINGS
    except (EventVaultError, *SYSTEM_ERRORS) as error:
        reason = f"the store cannot start: {reason_of(error)}"
        log.error("%s", reason)  # noqa: TRY400 - what the system says needs no traceback
        report_failure(reason)
        return FAILED
    return DONE


def _refusal(arguments: argparse.Namespace, settings: Settings, lock: OwnerLock) -> str:
    """Take the lock, and return why this store must not serve; empty if it may."""
    if not lock.acquire(ACQUIRE_SECONDS):
        return f"another process owns the database: it holds {settings.storage_dir / data_folders.OWNER_LOCK}"
    if arguments.mode == "command" and service_runs(settings.storage_dir):
        return "no store is started for a command, as the service runs and starts its own"
    if arguments.mode == "service" and not master_lives(os.environ.get(MASTER_VARIABLE)):
        return "no store is started, as the service that it belongs to has ended"
    return ""


def _heed_last_words(storage_dir: Path) -> int:
    """Log the last words of the previous store. If a bad sector in a table ended it, have the tables read before use.

    Returns how many stores in a row ended themselves because they were stuck.
    """
    words = read_last_words(storage_dir)
    if words:
        log.error("the last words of the store before this one: %s", words.decode(errors="replace"))
    if is_bus_error(words):
        distrust_tables()
    prepare_last_words(storage_dir)
    return stuck_in_a_row(words)


def _serve(settings: Settings, lock: OwnerLock, service_name: str, mode: str) -> None:
    guard = ClockGuard(settings.storage_dir)
    clock.use(guard.now)
    starts = starts_to_serve(settings.storage_dir, service_name) if mode != "command" else []
    has_jobs = mode != "command" and settings.jobs_enabled
    keeper = DispatcherKeeper(settings, DISPATCHER, service_name) if has_jobs else None
    service = StoreService(
        settings,
        service_starts=bool(starts),
        on_started=lambda: remember_starts(settings.storage_dir, starts),
        scheduler=_scheduler() if mode != "command" else None,
        with_kafka=mode != "command",
        clock_guard=guard,
        jobs=JobsClient.over(settings.storage_dir) if has_jobs else None,
        jobs_failure=lambda: "" if keeper is None else keeper.failure,
        service=service_name,
    )
    hello = wire.StoreHello(wire.PROTOCOL, eventvault.__version__, os.getpid(), service_name, mode)
    spawner = os.environ.get(SPAWNER_VARIABLE)
    server = StoreServer(
        service,
        hello,
        settings.storage_dir,
        linger=mode != "standalone",
        owns=lock.holds,
        service_lives=watched_master(os.environ.get(MASTER_VARIABLE) if mode == "service" else None),
        spawner=int(spawner) if spawner else None,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.end())
    listener = server.listen()
    report_listening()
    collect_seldom()
    threading.Thread(target=service.initialize, name="initialize", daemon=True).start()
    if keeper is not None:
        keeper.start()
    log.info("store process %s serves %s", os.getpid(), settings.storage_dir)
    with ending("store", log):
        server.serve(listener)
        end_within(STOP_SECONDS)
        if keeper is not None:
            keeper.stop(end_dispatcher=server.service_ends)
        if lock.holds():  # otherwise the folder is gone, and further appends would be lost
            service.stop()
            server.drain()
            service.bus.remove_view()


def _scheduler() -> Scheduler:
    # Imported here: a store for the command line does without Flask and APScheduler, which take a while to load.
    from app.store.scheduler import FlaskScheduler

    return FlaskScheduler()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m app.store", description="Own the event database and serve it to the other processes."
    )
    parser.add_argument("--service", default="", help="the id of the service start that it belongs to")
    parser.add_argument("--mode", choices=("service", "command", "standalone"), default="standalone")
    return parser.parse_args()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
