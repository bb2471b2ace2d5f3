"""The processes below this one: processes that handlers start, and their orphans, which this process adopts."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_END_SECONDS = 1.0


def adopt_orphans() -> None:
    """Become the parent of every process below this one whose own parent ends, in place of process 1."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_processes() -> list[str]:
    """Kill the processes that the handler has started and not ended, and their orphans. Returns their names.

    Processes that `multiprocessing` starts once and uses again are not killed.
    """
    names: dict[int, str] = {}
    deadline = time.monotonic() + _END_SECONDS
    while _has_children() and time.monotonic() < deadline:
        running = [child for child in children() - _helpers_of_multiprocessing() if not has_ended(child)]
        if not running:
            break
        for child in running:
            names.setdefault(child, _name_of(child))
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        time.sleep(0.001)
    return [f"{name} ({child})" for child, name in names.items()]


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def children() -> set[int]:
    """Return the children of this process that were not waited for."""
    processes: set[int] = set()
    for task in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):
            processes.update(map(int, task.read_bytes().split()))
    return processes


def _helpers_of_multiprocessing() -> set[int]:
    """Return the processes that `multiprocessing` starts once and uses again."""
    processes = set()
    for module, name, attribute in (
        ("multiprocessing.resource_tracker", "_resource_tracker", "_pid"),
        ("multiprocessing.forkserver", "_forkserver", "_forkserver_pid"),
    ):
        process = getattr(getattr(sys.modules.get(module), name, None), attribute, None)
        if isinstance(process, int):
            processes.add(process)
    return processes


def has_ended(child: int) -> bool:
    """Return whether a child has ended, and reap it: the handler may not have waited for it."""
    try:
        return os.waitpid(child, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return True


def _name_of(process: int) -> str:
    with suppress(OSError):
        return (Path("/proc") / str(process) / "comm").read_text(errors="replace").strip()
    return "a process"
