"""A thread between `start` and `stop`, which can be started again: it begins once the one before has ended."""

from __future__ import annotations

import threading
from collections.abc import Callable

from eventvault.progress import Activity, running, wait_for_thread

STOP_SECONDS = 20.0
"""How long a stop waits for a thread that makes no step; requests to a broker have shorter deadlines."""
_CHECK_SECONDS = 1.0


class RestartableThread:
    """name: in health and in the list of threads. doing: what it does, after "it". work: returns once its event is set.

    activity: that of the newest thread.
    """

    def __init__(self, name: str, doing: str, work: Callable[[threading.Event], None]) -> None:
        self.activity: Activity | None = None
        self._name = name
        self._doing = doing
        self._work = work
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if self._thread is not None and not self._stopping.is_set():
            return
        self._stopping = threading.Event()
        arguments = (self._stopping, self._thread)
        self._thread = threading.Thread(target=self._run, args=arguments, name=self._name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, within seconds. Raises TooBusy if it does not end; `start` then begins once it has."""
        if self._thread is not None:
            self._stopping.set()
            wait_for_thread(self._thread, f"the {self._name}", lambda: self.activity, STOP_SECONDS)
            self._thread = None

    def _run(self, stopping: threading.Event, before: threading.Thread | None) -> None:
        with running(self._name, self._doing) as self.activity:
            while before is not None and before.is_alive():  # without steps, so `stop` raises TooBusy for this one too
                before.join(_CHECK_SECONDS)
                if not stopping.is_set():
                    self.activity.step()
            if not stopping.is_set():
                self._work(stopping)
