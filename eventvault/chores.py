"""Chores: long work of the store in a child process of lower priority, such as archiving, unpacking or importing.

A child process leaves the store's interpreter free for appends, gives its memory back when it ends, and is cancelled by
killing it. Arguments, result and errors are JSON on standard input and output. `python -m eventvault.chores NAME` is
the child; `CHORES` lists its functions.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import orjson

from eventvault import clock, environment, errors
from eventvault.damage import SYSTEM_ERRORS, as_answer
from eventvault.printable import encodable

log = logging.getLogger("BackupManager")

CHORES = {
    "write_archive": "eventvault.backups.chores",
    "check_archive": "eventvault.restore.check",
    "check_content": "eventvault.archive.run_check",
    "check_runs": "eventvault.archive.run_check",
    "check_tables": "eventvault.backups.table_check",
    "check_opening": "eventvault.restore.prepare",
    "check_part": "eventvault.restore.records",
    "prepare_restore": "eventvault.restore.prepare",
    "prepare_in_place": "eventvault.restore.prepare",
    "prepare_moment": "eventvault.restore.moments.build_chore",
    "prepare_undo": "eventvault.restore.prepare",
}
"""Chore → the module of the function of that name, which takes keyword arguments and returns a dictionary."""

NICENESS = 10
KEEP_BUFFERS = {"MALLOC_MMAP_THRESHOLD_": str(2**26), "MALLOC_TRIM_THRESHOLD_": str(2**26)}
"""Make the GNU C library reuse buffers of some megabytes: without this a restore took half as long again."""
_PR_SET_PDEATHSIG = 1


class Chores:
    """Runs chores. `cancel` kills the running ones, and their callers get Cancelled."""

    def __init__(self, niceness: int = NICENESS) -> None:
        """niceness: added to that of this process; 0 for the chores of a chore."""
        self._niceness = niceness
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._cancelled = False

    def run(self, name: str, **arguments: Any) -> dict[str, Any]:
        """Run a chore and return its result. Raises the error that the chore raised, or Cancelled."""
        with self._lock:
            if self._cancelled:
                raise _cancelled(name)
            child = start_process(name, self._niceness)
            self._running.add(child)
        try:
            output, _ = child.communicate(orjson.dumps(arguments, default=str))
        finally:
            with self._lock:
                self._running.discard(child)
        return self._answer(name, child.returncode, output)

    def cancel(self) -> None:
        """Kill the running chores and start no more."""
        with self._lock:
            self._cancelled = True
            for child in self._running:
                child.kill()

    def _answer(self, name: str, status: int, output: bytes) -> dict[str, Any]:
        if self._cancelled:
            raise _cancelled(name)
        try:
            answer = orjson.loads(output)
        except orjson.JSONDecodeError:
            raise _died(name, status) from None
        if "error" in answer:
            raise errors.from_wire(answer["error"])
        result: dict[str, Any] = answer["result"]
        return result


def start_process(name: str, niceness: int) -> subprocess.Popen[bytes]:
    """The child that will do the chore `name`; it waits for its arguments."""
    return subprocess.Popen(
        [sys.executable, "-m", "eventvault.chores", name, str(os.getpid()), str(niceness), str(clock.correction())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).resolve().parent.parent,
        env=environment.for_child(KEEP_BUFFERS),
    )


def _cancelled(name: str) -> errors.Cancelled:
    return errors.Cancelled(f"{name} was cancelled because the store is stopping", hint="send the request again")


def _died(name: str, status: int) -> errors.EventVaultError:
    """The error for a child without an answer. A table is mapped into memory: a bad sector of it is SIGBUS."""
    if status == -signal.SIGBUS:
        return errors.DiskFailed(
            f"{name} failed: the disk could not read a file that was mapped into memory",
            hint="check the disk of STORAGE_DIR; the system's log names it",
        )
    return errors.TooBusy(
        f"the {name} process ended with status {status} and no answer",
        hint="try again; the machine may have run out of memory, which the system's log says",
    )


def end_with_parent(parent: int, signal_number: int = signal.SIGKILL) -> None:
    """Ask the kernel to signal this process when `parent` dies; signal it at once if `parent` is dead already."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal_number)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal_number)


def as_event_vault_error(name: str, error: Exception) -> errors.EventVaultError:
    """Convert an error of a chore: what the system says of a disk is an answer too."""
    return error if isinstance(error, errors.EventVaultError) else as_answer(name, error)


def main(name: str, parent: int, niceness: int, clock_correction: int) -> None:
    """Run one chore in the child process. clock_correction: of the parent's clock, in microseconds."""
    end_with_parent(parent)
    os.nice(niceness)
    clock.use(lambda: clock.system_now() - clock_correction)
    chore = getattr(importlib.import_module(CHORES[name]), name)
    arguments = orjson.loads(sys.stdin.buffer.read())
    try:
        answer = {"result": chore(**arguments)}
    except (errors.EventVaultError, *SYSTEM_ERRORS) as error:
        answer = {"error": as_event_vault_error(name, error).to_wire()}
    sys.stdout.buffer.write(orjson.dumps(encodable(answer), default=str))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
