"""Waits for clients of Kafka, by the monotonic clock.

librdkafka waits until an instant of the system clock. If the clock is set back meanwhile, the wait becomes longer by as
much. So its calls are made without a wait, again and again. A call that must wait for its answer gets a thread of its
own. And a client whose own threads may wait too long is replaced.
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
"""If the clock is set back by less, no wait becomes too long."""
_T = TypeVar("_T")


class Repeated:
    """Repeats a call until its result is enough. The pauses grow until then, also from one wait to the next."""

    def __init__(self) -> None:
        self._nap = _SHORTEST_NAP_SECONDS

    def wait(self, call: Callable[[], _T], is_enough: Callable[[_T], bool], seconds: float) -> _T:
        """Return the result of the last call: the first one that `is_enough`, or that after so many seconds."""
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


def call_in_thread(call: Callable[[], _T]) -> Future[_T]:
    """Make a call in a thread of its own. Whoever waits for its result needs a deadline.

    The thread ends with the call, maybe much later. So nothing else may use or close what the call uses.
    """
    answer: Future[_T] = Future()

    def run() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:  # noqa: BLE001 - raised where the result is awaited
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
