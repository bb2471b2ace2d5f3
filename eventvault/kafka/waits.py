"""Waits for clients of Kafka, by the monotonic clock.

librdkafka waits until an instant of the system clock. If the clock is set back meanwhile, such a wait becomes longer by
as much. So its calls are made without a wait, again and again; what only brings an answer if it waits has a thread of
its own; and a client whose own threads may wait like that is replaced.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from eventvault.clock_guard import read_clocks

_SHORTEST_NAP_SECONDS = 0.001
_LONGEST_NAP_SECONDS = 0.02
_STEP_MICROSECONDS = 1_000_000
"""A clock that is set back by less makes no wait long."""
_T = TypeVar("_T")


class Repeated:
    """Makes a call again until it brings enough. While nothing comes it is made less often, over several waits too."""

    def __init__(self) -> None:
        self._nap = _SHORTEST_NAP_SECONDS

    def wait(self, call: Callable[[], _T], is_enough: Callable[[_T], bool], seconds: float) -> _T:
        """Return what the last call returned: `is_enough`, or so many seconds have passed."""
        deadline = time.monotonic() + seconds
        while True:
            result = call()
            if is_enough(result):
                self._nap = _SHORTEST_NAP_SECONDS
                return result
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return result
            time.sleep(min(self._nap, remaining))
            self._nap = min(2 * self._nap, _LONGEST_NAP_SECONDS)


def begun(call: Callable[[], _T]) -> Future[_T]:
    """Make a call in a thread of its own; whoever waits for its result has a deadline of his own.

    The thread ends with the call, maybe much later, so only the call may use and close what it needs.
    """
    answer: Future[_T] = Future()

    def run() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:  # noqa: BLE001 - whoever waits gets it
            answer.set_exception(error)

    threading.Thread(target=run, name="question to Kafka", daemon=True).start()
    return answer


class ClockSetBack:
    """Tells whether the system clock was set back since a client was made."""

    def __init__(self) -> None:
        self._lead = _lead()

    def was_set_back(self) -> bool:
        lead = _lead()
        if lead <= self._lead - _STEP_MICROSECONDS:
            return True
        self._lead = max(self._lead, lead)
        return False


def _lead() -> int:
    """Return how far the system clock is ahead of the time since the boot, in microseconds."""
    wall, uptime = read_clocks()
    return wall - uptime
