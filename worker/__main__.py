"""`python -m worker [module …]`: runs jobs until SIGTERM or SIGINT. The modules, and WORKER_JOBS, have the handlers.

`eventvault/exit_statuses.py` has its exit statuses.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType

from eventvault import environment, file_modes, logs, settings
from eventvault.errors import EventVaultError, KafkaNotConfigured
from eventvault.exit_statuses import DONE, INVALID_SETTINGS, SIGNALLED
from eventvault.kafka.start_check import check_kafka_settings
from eventvault.settings import Settings
from worker import composed
from worker.protocol import WORKER_NAME
from worker.supervisor import ModulesNotImported

log = logging.getLogger("worker")

OWN = "--local"
"""Marks the service's own worker: JOBS_LOCAL_CONCURRENCY executors, over the dispatcher's socket, even with Kafka."""


def main(arguments: Sequence[str]) -> int:
    is_own = OWN in arguments
    try:
        loaded = _settings()
        modules = [*loaded.worker_jobs, *(word for word in arguments if word != OWN)]
        if not is_own and not loaded.kafka_bootstrap_servers and not composed.has_dispatcher(loaded):
            raise KafkaNotConfigured(
                f"KAFKA_BOOTSTRAP_SERVERS is not set, and no dispatcher has its socket in {loaded.storage_dir}",
                hint="set it to the brokers' addresses, or start the service with this STORAGE_DIR first",
            )
        if not is_own:
            check_kafka_settings(loaded)
    except EventVaultError as error:
        return _refuse(error)
    logs.setup(loaded)
    return _run(loaded, modules, is_own=is_own)


def _refuse(error: EventVaultError) -> int:
    print(f"worker: {error.message}\nHINT: {error.hint}", file=sys.stderr)
    return INVALID_SETTINGS


def _settings() -> Settings:
    loaded = settings.load()
    environment.hide(settings.SECRETS)
    file_modes.restrict_new_files(loaded)
    return loaded


def _run(loaded: Settings, modules: Sequence[str], *, is_own: bool) -> int:
    has_broker = bool(loaded.kafka_bootstrap_servers) and not is_own
    try:
        if has_broker:
            from eventvault.kafka.jobs.worker_transport import KafkaWorkerTransport  # here: its client loads slowly

            supervisor = composed.supervisor_for(loaded, KafkaWorkerTransport(loaded), modules)
        else:
            supervisor = composed.without_broker(loaded, modules, is_own=is_own)
    except EventVaultError as error:
        return _refuse(error)
    _drain_on_signals(supervisor.drain)
    source = loaded.kafka_bootstrap_servers if has_broker else f"the dispatcher in {loaded.storage_dir}"
    log.info("%s receives jobs from %s", WORKER_NAME, source)
    try:
        supervisor.run()
    except ModulesNotImported as error:
        print(f"worker: {error}\nHINT: correct the module, or take it out of WORKER_JOBS", file=sys.stderr)
        return INVALID_SETTINGS
    log.info("%s has drained and ends", WORKER_NAME)
    return DONE


def _drain_on_signals(drain: Callable[[], None]) -> None:
    """Drain on the first signal, and exit at once on the second; the running jobs are then repeated elsewhere."""

    def first(_: int, __: FrameType | None) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, second)
        drain()

    def second(number: int, _: FrameType | None) -> None:
        os._exit(SIGNALLED + number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, first)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
