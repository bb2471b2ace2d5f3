"""Ends this process if a stop takes too long or the store cannot go on.

Nothing here waits for a disk, a lock or a log: each part runs in a thread of its own with a deadline.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from eventvault import progress
from eventvault.database import opening
from eventvault.exit_statuses import DONE, FAILED
from eventvault.store.process.last_words import write_last_words

log = logging.getLogger("BackupManager")

WORDS_SECONDS = 2.0
"""How long the reason may take to be written."""


@contextmanager
def ending(process: str, logger: logging.Logger) -> Iterator[None]:
    """End this process after the context, with its status: FAILED after an error, which is logged. Does not return."""
    status = FAILED
    try:
        yield
        logger.info("%s process %s ends", process, os.getpid())
        status = DONE
    except Exception:
        logger.exception("%s process %s ends after an unexpected error", process, os.getpid())
    finally:
        # Closing a LevelDB that a thread still reads crashes. The kernel releases its lock with the process.
        end_process(status)


def end_process(status: int) -> None:
    """End this process now, once its log is written. Does not return."""
    _within_seconds(logging.shutdown)
    os._exit(status)


def end_if_useless() -> None:
    """Let this process end as soon as LevelDB refuses to open a database in it again: another process can open it."""
    opening.set_end_of_process(_end_useless)


def end_within(seconds: float) -> None:
    """End this process after so many seconds, if it still runs then; returns at once."""
    threading.Thread(target=_end_after, args=(seconds,), name="end", daemon=True).start()


def end_stuck(reason: str, stuck_stores: int) -> None:
    """End this process because it is stuck, and let the next store know. Does not return."""
    _within_seconds(lambda: write_last_words(reason, stuck_stores))
    _within_seconds(lambda: log.critical("the store ends, and another one takes over: %s", reason))
    _within_seconds(lambda: faulthandler.dump_traceback(sys.__stderr__ or sys.stderr))
    os._exit(FAILED)


def _end_useless(reason: str) -> None:
    _within_seconds(lambda: log.critical("the process ends, and another one takes over: %s", reason))
    end_process(FAILED)


def _end_after(seconds: float) -> None:
    time.sleep(seconds)
    stuck = "; ".join(f"{activity.name}: {activity.describe()}" for activity in progress.stuck_activities())
    _within_seconds(lambda: log.error("the store does not end within %.0f s and is ended (%s)", seconds, stuck or "-"))
    os._exit(FAILED)


def _within_seconds(work: Callable[[], None]) -> None:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(WORDS_SECONDS)
