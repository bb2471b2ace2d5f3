"""Signal handling of gunicorn's workers: while they start, and when they are interrupted."""

from __future__ import annotations

import functools
import os
import signal
from types import FrameType
from typing import Any

from eventvault.exit_statuses import DONE

INTERRUPT_SECONDS = 3
"""How long an interrupted worker may finish its requests."""

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_masks: list[set[signal.Signals]] = []


@functools.cache
def exit_on_early_signals() -> None:
    """Let a worker exit at once on a signal that arrives before it has its own handlers. Runs once in each master.

    Until then a forked worker has the master's handlers, which put the signal into a queue that nobody reads: the
    master would wait for the worker for `graceful_timeout`. The fork blocks the signals until they are replaced.
    """
    os.register_at_fork(before=_block_signals, after_in_parent=_restore_mask, after_in_child=_exit_on_signal)


def _block_signals() -> None:
    _masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING))  # type: ignore[arg-type]


def _restore_mask() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.pop())


def _exit_on_signal() -> None:
    for number in _ENDING:
        signal.signal(number, lambda *_: os._exit(DONE))
    _restore_mask()


def exit_soon_on_interrupt(worker: Any) -> None:
    """On Ctrl-C and SIGQUIT let a worker finish its requests, and exit after INTERRUPT_SECONDS at the latest.

    gunicorn's own handler hung: it takes a lock of the thread pool that the interrupted code may hold.
    """

    def interrupted(number: int, frame: FrameType | None) -> None:
        signal.alarm(INTERRUPT_SECONDS)
        worker.handle_exit(number, frame)

    signal.signal(signal.SIGALRM, lambda *_: os._exit(DONE))
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, interrupted)
