"""Reports the progress of long work on an archive, in bytes."""

from __future__ import annotations

from collections.abc import Callable

from eventvault.operations.operation import current

Progress = Callable[[int, int], None]
"""Called from time to time with the bytes done and the total bytes."""


class ProgressCounter:
    """Adds up the bytes done, and reports them to this thread's operation and to `report`.

    step: the name of the step that begins in the operation.
    """

    def __init__(self, step: str, total: int, report: Progress | None = None) -> None:
        self._total = total
        self._done = 0
        self._report = report
        self._operation = current()
        self._operation.step(step, total)

    def advance(self, count: int) -> None:
        self.advance_to(self._done + count)

    def advance_to(self, done: int) -> None:
        self._operation.advance(done - self._done)
        self._done = done
        if self._report is not None:
            self._report(self._done, self._total)
