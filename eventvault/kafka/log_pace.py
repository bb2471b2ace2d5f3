"""How often the log names what lasts, so that an absent broker or a broken producer does not fill a disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

HOUR = 3600.0
MINUTE = 60.0

Key = TypeVar("Key")


class LogPace(Generic[Key]):
    """Tells whether to log a text again: at once if it is another one of its key, otherwise after `seconds`.

    monotonic: a clock in seconds. Not safe for many threads.
    """

    def __init__(self, seconds: float, monotonic: Callable[[], float]) -> None:
        self.logged: dict[Key, tuple[str, float]] = {}
        """Key → what was logged of it last, and when. A caller removes the key of a cause that is over."""
        self._seconds = seconds
        self._monotonic = monotonic

    def is_due(self, key: Key, text: str = "") -> bool:
        """Return True if the text is to be logged now; the caller does."""
        now = self._monotonic()
        before, at = self.logged.get(key, ("", float("-inf")))
        if text == before and now - at < self._seconds:
            return False
        self.logged[key] = text, now
        return True
