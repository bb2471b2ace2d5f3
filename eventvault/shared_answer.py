"""An answer that costs something, made once for all who ask at about the same time."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

Answer = TypeVar("Answer")


class _Made(NamedTuple, Generic[Answer]):
    """began: when making it began (monotonic). seconds: how long that took."""

    answer: Answer
    began: float
    seconds: float
    version: int


class SharedAnswer(Generic[Answer]):
    """Makes the answer in a thread of its own, one at a time, so that nobody waits longer for it than wanted.

    Safe to use from many threads. make: returns the answer.
    """

    def __init__(self, name: str, make: Callable[[], Answer], clock: Callable[[], float] = time.monotonic) -> None:
        """name: of the thread. clock: seconds that never go back."""
        self._name = name
        self._make = make
        self._clock = clock
        self._changed = threading.Condition()
        self._made: _Made[Answer] | None = None
        self._running: float | None = None
        self._failure: Exception | None = None
        self._version = 0

    @property
    def seconds(self) -> float:
        """How long the newest answer took to make; 0 if there is none."""
        made = self._made
        return made.seconds if made is not None else 0.0

    @property
    def age(self) -> float:
        """How long ago the newest answer was begun; infinite if there is none."""
        made = self._made
        return self._clock() - made.began if made is not None else math.inf

    @property
    def running_since(self) -> float | None:
        """When the answer that is being made was begun; None if none is."""
        return self._running

    @property
    def is_valid(self) -> bool:
        """Whether the newest answer was begun after the last `invalidate`."""
        made = self._made
        return made is not None and made.version >= self._version

    def invalidate(self) -> None:
        """Let no later call of `get` return an answer that was begun before now, unless it gets impatient."""
        with self._changed:
            self._version += 1

    def get(self, *, max_age: float, patience: float) -> Answer | None:
        """Return an answer that was begun at most `max_age` seconds ago, and after the last `invalidate`.

        If that takes longer than `patience` seconds, return the newest answer, or None if there is none yet. Raises
        what `make` raised.
        """
        with self._changed:
            asked = self._clock()
            version, deadline = self._version, time.monotonic() + patience
            while not self._is_good(version, asked - max_age):
                if self._running is None and not self._start():
                    break
                if not self._changed.wait(max(0.0, deadline - time.monotonic())):
                    break
                if self._failure is not None and self._running is None:
                    raise self._failure.with_traceback(None)
            return self._made.answer if self._made is not None else None

    def _is_good(self, version: int, oldest: float) -> bool:
        return self._made is not None and self._made.version >= version and self._made.began >= oldest

    def _start(self) -> bool:
        """Begin to make an answer. Returns False if the system has no thread for it."""
        try:
            threading.Thread(target=self._run, args=(self._version,), name=self._name, daemon=True).start()
        except RuntimeError:
            return False
        self._running, self._failure = self._clock(), None
        return True

    def _run(self, version: int) -> None:
        began = self._clock()
        made: _Made[Answer] | None = None
        failure: Exception | None = None
        try:
            made = _Made(self._make(), began, self._clock() - began, version)
        except Exception as error:  # noqa: BLE001 - whoever asked gets it
            failure = error
        with self._changed:
            self._made, self._failure, self._running = made or self._made, failure, None
            self._changed.notify_all()
