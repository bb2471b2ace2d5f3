"""Measures the memory of each process of a service while a block of code runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests import processes

INTERVAL = 0.05
"""Seconds between two samples."""


def role(command: str) -> str:
    """Return the role of a process from its command line."""
    if "eventvault.chores" in command:
        return "chore (" + command.partition("eventvault.chores ")[2].split()[0] + ")"
    if "app.store" in command:
        return "store"
    return "gunicorn" if "gunicorn" in command else command


@contextmanager
def watched(mark: str) -> Iterator[dict[str, int]]:
    """Yield a dictionary that is updated while the block runs: role → maximum RssAnon of a process in bytes."""
    most: dict[str, int] = {}
    over = threading.Event()

    def look() -> None:
        while not over.wait(INTERVAL):
            for pid, command in processes.marked(mark).items():
                with suppress(OSError):
                    most[role(command)] = max(most.get(role(command), 0), processes.own_memory(pid))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield most
    finally:
        over.set()
        watcher.join()
