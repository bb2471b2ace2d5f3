"""Handlers that write down each run: what the dispatcher says of a job is compared with that."""

from __future__ import annotations

import os
import time
from typing import Any

from worker.jobs import Job, job


def _write(word: str, one: Job) -> None:
    line = f"{word} {one.id} {one.attempt} {time.monotonic():.6f} {os.getpid()}\n"
    handle = os.open(os.environ["EVENTVAULT_TEST_LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(handle, line.encode())
    finally:
        os.close(handle)


@job("note", max_attempts=100)
def note(one: Job) -> Any:
    """Take as many seconds as the payload says."""
    _write("begin", one)
    time.sleep(one.payload or 0)
    _write("end", one)
    return one.payload
