"""The heartbeat of a worker, and `python -m worker.heartbeat`, which fails if a worker here cannot work.

A worker serves no HTTP. Its heartbeat is a file in the temporary folder, with the time of its last progress, and
whether Kafka, or the dispatcher, answers.
"""

from __future__ import annotations

import logging
import os
import stat
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from eventvault.exit_statuses import DONE, FAILED

log = logging.getLogger("worker")

STALE_SECONDS = 30.0
_WRITE_SECONDS = 1.0
_PREFIX = "eventvault-worker-"
_LENGTH = 40


class Heartbeat:
    """Belongs to the thread of the worker's loop."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._handle = -1
        self._written: tuple[float, bool] | None = None
        try:
            self._path = Path(tempfile.gettempdir()) / f"{_PREFIX}{os.getpid()}"
            self._path.unlink(missing_ok=True)  # an earlier process may have had this id
            self._handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            self._path = None
            log.warning("this worker cannot be checked by python -m worker.heartbeat: %s", error)

    def beat(self, *, kafka_answers: bool) -> None:
        """Note that the loop makes progress. May be called often; writes once a second."""
        now = time.monotonic()
        if self._path is None or (self._written and self._written[1] == kafka_answers
                                  and now - self._written[0] < _WRITE_SECONDS):  # fmt: skip
            return
        self._written = now, kafka_answers
        with suppress(OSError):  # a full disk stops no job
            os.pwrite(self._handle, f"{now:.3f} {int(kafka_answers)}".ljust(_LENGTH).encode(), 0)

    def close(self) -> None:
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            os.close(self._handle)
            self._path = None


def problem_of_workers(folder: Path) -> str | None:
    """Return why a worker of this user on this machine cannot work; None if all can."""
    beats = [beat for path in folder.glob(f"{_PREFIX}*") if (beat := _read(path)) is not None]
    if not beats:
        return "no worker runs here"
    for age, kafka_answers in beats:
        if age > STALE_SECONDS:
            return f"a worker made no progress for {age:.0f} s"
        if not kafka_answers:
            return "no Kafka broker answers, a topic is missing, or no dispatcher answers; the worker's log says which"
    return None


def _read(path: Path) -> tuple[float, bool] | None:
    """Return the age of the last heartbeat, and whether Kafka answers; None for a worker that has ended."""
    with suppress(OSError, ValueError):
        os.kill(int(path.name.removeprefix(_PREFIX)), 0)
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            status = os.fstat(handle)
            if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid():
                written, answers = os.pread(handle, _LENGTH, 0).split()
                return time.monotonic() - float(written), answers == b"1"
        finally:
            os.close(handle)
    return None


def main() -> int:
    try:
        problem = problem_of_workers(Path(tempfile.gettempdir()))
    except OSError as error:
        problem = f"the temporary folder cannot be read: {error}"
    if problem is not None:
        print(f"worker: {problem}", file=sys.stderr)
        return FAILED
    return DONE


if __name__ == "__main__":
    sys.exit(main())
