"""Limits how often the log repeats a lasting problem, so that an absent broker does not fill a disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

HOUR = 3600.0
MINUTE = 60.0

Key = TypeVar("Key")


class LogPace(Generic[Key]):
    """Tells whether to log a text: at once if the last text of its key was another one, otherwise after `seconds`.

    monotonic: a clock in seconds. Not safe for many threads.
    """

    def __init__(self, seconds: float, monotonic: Callable[[], float]) -> None:
        self.logged: dict[Key, tuple[str, float]] = {}
        """Key → the text that was last logged, and when. The caller removes the key of a problem that is over."""
        self._seconds = seconds
        self._monotonic = monotonic

    def is_due(self, key: Key, text: str = "") -> bool:
        now = self._monotonic()
        before, at = self.logged.get(key, ("", float("-inf")))
        if text == before and now - at < self._seconds:
            return False
        self.logged[key] = text, now
        return True
