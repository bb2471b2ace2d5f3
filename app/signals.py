"""What the signals that end a worker do while it is being born, and when it is interrupted."""

from __future__ import annotations

import functools
import os
import signal
from types import FrameType
from typing import Any

INTERRUPT_SECONDS = 3
"""How long a worker that is interrupted finishes its requests."""

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_masks: list[set[signal.Signals]] = []


@functools.cache
def exit_on_early_signals() -> None:
    """Have a worker that is told to end before it has its own handlers end at once; once in each master.

    gunicorn leaves it those of the master until then, which put the signal into a queue that nobody reads: the worker
    would live on, and the master wait for it for `graceful_timeout`. Until they are replaced the signals are held back.
    """
    os.register_at_fork(before=_block_signals, after_in_parent=_restore_mask, after_in_child=_exit_on_signal)


def _block_signals() -> None:
    _masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING))  # type: ignore[arg-type]


def _restore_mask() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.pop())


def _exit_on_signal() -> None:
    for number in _ENDING:
        signal.signal(number, lambda *_: os._exit(0))
    _restore_mask()


def exit_soon_on_interrupt(worker: Any) -> None:
    """Ctrl-C and SIGQUIT: a worker answers what is under way, and ends within INTERRUPT_SECONDS all the same.

    gunicorn's own handler takes a lock of the thread pool that the interrupted code may hold: seen to hang.
    """

    def interrupted(number: int, frame: FrameType | None) -> None:
        signal.alarm(INTERRUPT_SECONDS)
        worker.handle_exit(number, frame)

    signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, interrupted)
