"""Measures the memory of each process of a service while a block of code runs."""

from __future__ import annotations

from contextlib import AbstractContextManager

from tests import processes


def role(command: str) -> str:
    """Return the role of a process from its command line."""
    if "eventvault.chores" in command:
        return "chore (" + command.partition("eventvault.chores ")[2].split()[0] + ")"
    if "app.store" in command:
        return "store"
    return "gunicorn" if "gunicorn" in command else command


def watched(mark: str) -> AbstractContextManager[dict[str, int]]:
    """Yield a dictionary that is updated while the block runs: role → maximum RssAnon of a process in bytes."""
    return processes.memory_watched(lambda: processes.marked(mark), role)
