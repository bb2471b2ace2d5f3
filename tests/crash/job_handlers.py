"""Handlers that write down each run: what the dispatcher says of a job is compared with that."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, NoReturn

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


@job("exit", max_attempts=2)
def leave(one: Job) -> NoReturn:
    """End the process, as one that runs out of memory ends."""
    _write("begin", one)
    os._exit(1)


@job("wait", max_attempts=100)
def wait(one: Job) -> int:
    """End once the file that the payload names is there."""
    _write("begin", one)
    while not Path(one.payload).exists():
        time.sleep(0.01)
    _write("end", one)
    return one.attempt
