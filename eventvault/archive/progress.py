"""Reports the progress of long work on an archive, in bytes."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called now and then with the bytes done and the bytes in all."""


class ProgressCounter:
    """Adds up the bytes done and reports them to `report`, if there is one."""

    def __init__(self, total: int, report: Progress | None = None) -> None:
        self._total = total
        self._done = 0
        self._report = report

    def advance(self, count: int) -> None:
        self.advance_to(self._done + count)

    def advance_to(self, done: int) -> None:
        self._done = done
        if self._report is not None:
            self._report(self._done, self._total)
