"""How the clients of other programs for jobs are asked to submit: with numbers on lines. It needs no package."""

from __future__ import annotations

import sys
from collections.abc import Callable


def submit_as_asked(submit: Callable[[int], object]) -> None:
    """Answer each line with a line, once so many jobs are submitted; the first one says that all is imported."""
    submitted = 0
    print("ready", flush=True)
    for line in sys.stdin:
        for _ in range(int(line)):
            submit(submitted)
            submitted += 1
        print("submitted", flush=True)
