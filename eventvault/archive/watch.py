"""Progress and cancellation of long work on an archive."""

from __future__ import annotations

from collections.abc import Callable

from eventvault.errors import Cancelled

Progress = Callable[[int, int], None]
"""Called now and then with the bytes done and the bytes there are in all."""

IsCancelled = Callable[[], bool]
"""Asked now and then whether the work shall end, with nothing of it kept."""


class Watch:
    """Tells `progress` what is done and raises Cancelled, naming what was `doing`, when `cancelled` says so."""

    def __init__(self, doing: str, total: int, progress: Progress | None, cancelled: IsCancelled | None) -> None:
        self._doing = doing
        self._total = total
        self._done = 0
        self._progress = progress
        self._cancelled = cancelled

    def advance(self, count: int) -> None:
        if self._cancelled is not None and self._cancelled():
            raise Cancelled(f"{self._doing} was cancelled", hint="nothing of it was kept; begin it again when needed")
        self._done += count
        if self._progress is not None:
            self._progress(self._done, self._total)
