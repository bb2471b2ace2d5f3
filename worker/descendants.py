"""The processes below this one: those that handlers start, and orphans of them, which come to this process."""

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
    """Become the parent of each process below this one whose own parent ends, as process 1 is of all others."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_processes() -> list[str]:
    """Kill the processes that the handler left behind, orphans of its children too. Returns their names.

    Those that `multiprocessing` starts once and uses again stay.
    """
    names: dict[int, str] = {}
    deadline = time.monotonic() + _END_SECONDS
    while _has_children() and time.monotonic() < deadline:
        running = [child for child in children() - _helpers() if not has_ended(child)]
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
    """The processes whose parent is this one, and that were not waited for."""
    found: set[int] = set()
    for task in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):
            found.update(map(int, task.read_bytes().split()))
    return found


def _helpers() -> set[int]:
    """Processes that `multiprocessing` starts once and uses again."""
    found = set()
    for module, name, attribute in (
        ("multiprocessing.resource_tracker", "_resource_tracker", "_pid"),
        ("multiprocessing.forkserver", "_forkserver", "_forkserver_pid"),
    ):
        process = getattr(getattr(sys.modules.get(module), name, None), attribute, None)
        if isinstance(process, int):
            found.add(process)
    return found


def has_ended(child: int) -> bool:
    """Reap a child that has ended: what a handler did not wait for takes no place in the system's table."""
    try:
        return os.waitpid(child, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return True


def _name_of(process: int) -> str:
    with suppress(OSError):
        return (Path("/proc") / str(process) / "comm").read_text(errors="replace").strip()
    return "a process"
