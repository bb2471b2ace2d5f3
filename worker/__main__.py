"""`python -m worker [module …]`: run jobs from Kafka until SIGTERM or SIGINT; the modules register further handlers.

Exit codes: 0 after a drain, 78 (EX_CONFIG of sysexits.h) where a setting is missing or wrong, 1 after an error that
no further try can mend, 128 + the signal's number after a second signal.
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

from eventvault import logs, settings
from eventvault.errors import EventVaultError
from eventvault.kafka import config, topics
from eventvault.settings import Settings
from worker import jobs
from worker.loop import Worker

EX_CONFIG = 78

log = logging.getLogger("worker")


def main(modules: Sequence[str]) -> int:
    try:
        loaded = _settings()
        for module in modules:
            importlib.import_module(module)
    except EventVaultError as error:
        print(f"worker: {error.message}\nHINT: {error.hint}", file=sys.stderr)
        return EX_CONFIG
    except ImportError as error:
        print(f"worker: a module with job handlers cannot be imported: {error}", file=sys.stderr)
        return EX_CONFIG
    logs.setup(loaded)
    return _run(loaded)


def _settings() -> Settings:
    loaded = settings.load()
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
    log.info("%s is drained and ends", jobs.WORKER_NAME)
    return 0


def _drain_on_signals(worker: Worker) -> None:
    """The first signal drains, the second ends the process at once: its job is run again by another worker."""

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
