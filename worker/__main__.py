"""`python -m worker [module …]`: runs jobs from Kafka until SIGTERM or SIGINT. They and WORKER_JOBS have handlers.

Exit status: 0 after draining, 78 (EX_CONFIG of sysexits.h) if a setting or a module is missing or invalid, 1 after an
error that a retry cannot fix, 128 + the signal's number after a second signal.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from confluent_kafka import KafkaException

from eventvault import environment, file_modes, logs, settings
from eventvault.errors import EventVaultError
from eventvault.kafka import config, topics
from eventvault.settings import INVALID_SETTINGS_STATUS, Settings
from worker import jobs
from worker.loop import Worker

log = logging.getLogger("worker")


def main(modules: Sequence[str]) -> int:
    try:
        loaded = _settings()
        for module in (*loaded.worker_jobs, *modules):
            importlib.import_module(module)
    except EventVaultError as error:
        print(f"worker: {error.message}\nHINT: {error.hint}", file=sys.stderr)
        return INVALID_SETTINGS_STATUS
    except ImportError as error:
        print(f"worker: a module with job handlers cannot be imported: {error}", file=sys.stderr)
        return INVALID_SETTINGS_STATUS
    logs.setup(loaded)
    return _run(loaded)


def _settings() -> Settings:
    loaded = settings.load()
    environment.hide(settings.SECRETS)
    file_modes.restrict_new_files(loaded)
    config.client(loaded)
    return loaded


def _run(loaded: Settings) -> int:
    worker = Worker(loaded)
    _drain_on_signals(worker)
    log.info("%s takes jobs from %s", jobs.WORKER_NAME, loaded.kafka_jobs_topic)
    try:
        worker.run()
    except KafkaException as error:
        log.error("the worker ends: %s", topics.reason_of(error))  # noqa: TRY400
        return 1
    log.info("%s has drained and ends", jobs.WORKER_NAME)
    return 0


def _drain_on_signals(worker: Worker) -> None:
    """Drain on the first signal, and exit at once on the second. Then another worker repeats the running job."""

    def first(_: int, __: FrameType | None) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, second)
        worker.drain()

    def second(number: int, _: FrameType | None) -> None:
        os._exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, first)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
