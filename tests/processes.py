"""The processes of one service, found in /proc by a mark in their environment: detached and orphaned ones too."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MARK = "EVENTVAULT_TEST_SERVICE"
_found: dict[str, dict[int, str]] = {}
"""Mark → what the newest look found."""


def marked(mark: str) -> dict[int, str]:
    """Process id → command line of every process whose environment holds MARK=mark.

    One that an earlier look found and that is ending is among them, without a command line: it has lost its
    environment, but still has its locks and ports.
    """
    wanted = f"{MARK}={mark}".encode()
    found = {pid: "" for pid in _found.get(mark, {}) if _is_ending(pid)}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):  # it ended meanwhile, or is another user's
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    found[int(folder.name)] = command_line(int(folder.name))
    _found[mark] = found
    return found


def _is_ending(pid: int) -> bool:
    """A process gives up its memory first, then its files, and then it is a zombie."""
    with suppress(OSError):
        memory_is_gone = not (Path("/proc") / str(pid) / "environ").read_bytes()
        return memory_is_gone and not set(states(pid)) <= {"X", "Z"}
    return False


def first_free_descriptor(pid: int) -> int:
    """Return the lowest number of a descriptor that a process does not have open all the time."""
    folder = Path("/proc") / str(pid) / "fd"
    lasting = set.intersection(*({int(each.name) for each in folder.iterdir()} for _ in range(2000)))
    return next(number for number in range(len(lasting) + 1) if number not in lasting)


def command_line(pid: int) -> str:
    return (Path("/proc") / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()


def parent(pid: int) -> int:
    """The parent's process id. Raises OSError for a process that has ended."""
    return int((Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])


def states(pid: int) -> list[str]:
    """The state of each thread, as /proc has it: R runs or would, S waits, T is stopped; none if it has ended."""
    found = []
    for task in (Path("/proc") / str(pid) / "task").glob("*/stat"):
        with suppress(OSError):
            found.append(task.read_text().rpartition(")")[2].split()[0])
    return found


def own_memory(pid: int) -> int:
    """RssAnon in bytes: what a process holds itself, without the files that it maps."""
    for line in (Path("/proc") / str(pid) / "status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


def open_beneath(folder: Path) -> list[Path]:
    """The files and folders in `folder` that this process has open, whatever other threads of it open elsewhere."""
    found = []
    for handle in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(handle.readlink())
    return [path for path in found if path.is_relative_to(folder)]


@contextmanager
def repeated(step: Callable[[], object], pause: float = 0.0) -> Iterator[None]:
    """Call `step` again and again, in a thread, while the block runs. pause: seconds before each call."""
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(pause):
            step()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def memory_watched(
    running: Callable[[], dict[int, str]], name: Callable[[str], str] = str, interval: float = 0.05
) -> Iterator[dict[str, int]]:
    """Yield a dictionary that is updated while the block runs: name → maximum `own_memory` of a process.

    running: returns pid → command line. name: of a command line. interval: seconds between two looks.
    """
    most: dict[str, int] = {}

    def look() -> None:
        for pid, command in running().items():
            with suppress(OSError):
                most[name(command)] = max(most.get(name(command), 0), own_memory(pid))

    with repeated(look, interval):
        yield most


def kill(pids: dict[int, str] | list[int], number: int = signal.SIGKILL) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def wait_until(condition: Callable[[], object], what: str, seconds: float = 90) -> None:
    """Look again and again until `condition()` is true. Raises TimeoutError that says what did not come about.

    The longer it takes, the less often it looks: a look may cost a request, or a walk through /proc.
    """
    began = time.monotonic()
    while not condition():
        waited = time.monotonic() - began
        if waited > seconds:
            raise TimeoutError(f"after {seconds} s: {what}")
        time.sleep(min(0.05, 0.01 + waited / 10))
