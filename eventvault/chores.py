"""Chores: long work of the store in a child process of lower priority, such as archiving, unpacking or importing.

A child process leaves the store's interpreter free for appends, gives its memory back when it ends, and is cancelled by
killing it. Arguments, result and errors are JSON on standard input and output; lines of progress come before the
result. `python -m eventvault.chores NAME` is the child; `CHORES` lists its functions.

What a chore reads may be hostile. Its memory is limited by RLIMIT_DATA, which counts what it allocates: not RLIMIT_AS,
because LevelDB maps up to 1,000 tables into memory. Whatever ends it, the caller gets an error that says what to do.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import logging
import os
import resource
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import plyvel

from eventvault import clock, data_folders, environment, errors, progress, record_size
from eventvault.child_input import send_input
from eventvault.damage import SYSTEM_ERRORS, as_answer
from eventvault.files import remove_durably
from eventvault.operations.lines import LineReader, ProgressLines
from eventvault.operations.operation import Operation, current, use_for_process
from eventvault.orphans import end_with_parent
from eventvault.printable import encodable
from eventvault.system_errors import number_of

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
    "find_origin": "eventvault.foreign.detect",
    "compare_events": "eventvault.rehearsals.compare",
    "compare_part": "eventvault.rehearsals.compare",
}
"""Chore → the module of the function of that name, which takes keyword arguments and returns a dictionary."""

READS = {
    "check_archive": "archive",
    "check_content": "archive",
    "check_runs": "archive",
    "check_part": "archive",
    "prepare_restore": "archive",
    "prepare_in_place": "copy",
    "find_origin": "folder",
    "check_opening": "source",
}
"""Chore → the argument that names its input, if the input may be hostile: its bytes may be why the chore failed."""

MEMORY_BYTES = 384 * 2**20
"""What a chore may allocate, besides _MEMORY_PER_CORE. A backup or restore of any size takes about 110 MB, the import
of one record of 32 MiB 310 MB."""
_MEMORY_PER_CORE = 32 * 2**20
"""Each core has a thread with its stack and its buffers."""
_COPIES_OF_RECORD = 8
"""How often a record is in memory while it is imported: in LevelDB, here, as base64, and as it is written."""
_CRASHES = frozenset({signal.SIGSEGV, signal.SIGABRT, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP, signal.SIGSYS})
"""Signals that come from what a process itself does; others come from outside."""

NICENESS = 10
IDLE_NICENESS = NICENESS + 1
"""With this niceness a process also reads and writes only while nobody else wants the disk (I/O class idle)."""
_IOPRIO_SET = {"x86_64": 251, "aarch64": 30}
"""Machine → number of the system call, which has no function in the C library."""
_IDLE_CLASS = 3 << 13
KEEP_BUFFERS = {"MALLOC_MMAP_THRESHOLD_": str(2**24), "MALLOC_TRIM_THRESHOLD_": str(2**26)}
"""Make the GNU C library reuse buffers of some megabytes: without this a restore took 50 % longer. One of 16 MiB or
more is returned when it is freed: the gaps that large records left in the heap took 150 MB."""
STEP_SECONDS = 1.0
"""Seconds between two checks whether a chore makes progress."""
PROGRESS_SECONDS = 0.2
"""Seconds between two reads of the lines of progress."""
CHORE_SECONDS = 300.0
"""A chore that makes no step for this long is killed."""


class Chores:
    """Runs chores. `cancel` kills the running ones, and their callers get Cancelled."""

    def __init__(self, niceness: int = NICENESS) -> None:
        """niceness: added to that of this process; 0 for the chores of a chore."""
        self._niceness = niceness
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._cancelled = False

    def run(self, name: str, *, operation: Operation | None = None, **arguments: Any) -> dict[str, Any]:
        """Run a chore and return its result. Raises the error that the chore raised, or why it ended, or Cancelled.

        operation: receives the progress; cancelling it kills the chore. By default it is the operation of this thread.
        If `scratch` is among its arguments, the chore gets a private folder in it, which is removed however it ends.
        """
        operation = operation or current()
        if "scratch" not in arguments:
            return self._run(name, arguments, operation)
        with _private_folder(Path(arguments["scratch"])) as folder:
            return self._run(name, {**arguments, "scratch": str(folder)}, operation)

    def _run(self, name: str, arguments: Mapping[str, Any], operation: Operation) -> dict[str, Any]:
        with self._lock:
            if self._cancelled:
                raise _cancelled(name)
            child = start_process(name, self._niceness)
            self._running.add(child)
        try:
            with operation.on_cancel(child.kill):
                output = _output_of(child, name, orjson.dumps(arguments, default=str), operation)
        finally:
            with self._lock:
                self._running.discard(child)
        answer = output.rpartition(b"\n")[2]
        if not answer and not self._cancelled:
            operation.check_cancelled()
        return self._answer(name, child.returncode, answer, subject_of(name, arguments))

    def cancel(self) -> None:
        """Kill the running chores and start no more."""
        with self._lock:
            self._cancelled = True
            for child in self._running:
                child.kill()

    def _answer(self, name: str, status: int, output: bytes, subject: str | None) -> dict[str, Any]:
        if self._cancelled:
            raise _cancelled(name)
        try:
            answer = orjson.loads(output)
        except orjson.JSONDecodeError:
            raise _died(name, status, subject) from None
        if "error" in answer:
            raise errors.from_wire(answer["error"])
        result: dict[str, Any] = answer["result"]
        return result


def _output_of(child: subprocess.Popen[bytes], name: str, arguments: bytes, operation: Operation) -> bytes:
    """Return what the child writes until its end. Raises DiskFailed if it makes no step for CHORE_SECONDS."""
    progress.step(f"waits for {name}, process {child.pid}")
    send_input(child, arguments)
    work, newest, lines = work_of(child.pid), time.monotonic(), LineReader(operation)
    observed = newest
    while True:
        try:
            output = child.communicate(timeout=min(PROGRESS_SECONDS, STEP_SECONDS))[0]
        except subprocess.TimeoutExpired as unfinished:
            lines.read(unfinished.output or b"")
        else:
            lines.read(output)
            return output
        if time.monotonic() - observed < STEP_SECONDS:
            continue
        before, work, observed = work, work_of(child.pid), time.monotonic()
        if work != before:
            newest = time.monotonic()
            progress.step()
        elif time.monotonic() - newest >= CHORE_SECONDS:
            child.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.communicate(timeout=STEP_SECONDS)
            raise errors.DiskFailed(
                f"{name} failed: its process made no step for {CHORE_SECONDS:.0f} s and was killed",
                hint="see whether the disks of STORAGE_DIR and BACKUP_DIR answer, then try again",
            )


def work_of(process: int) -> tuple[int, ...]:
    """Return numbers that grow while a process or a child of it works: CPU time, reads and writes."""
    folder, work = Path(f"/proc/{process}"), tuple[int, ...]()
    with contextlib.suppress(OSError, ValueError, IndexError):
        times = (folder / "stat").read_bytes().rpartition(b")")[2].split()[11:13]
        calls = (folder / "io").read_bytes().split()
        work = (sum(map(int, times)), int(calls[5]) + int(calls[7]))
    with contextlib.suppress(OSError):  # the process and each of its threads may end at any time
        for task in (folder / "task").iterdir():
            with contextlib.suppress(OSError):
                for child in (task / "children").read_bytes().split():
                    work = work_of(int(child)) + work
    return work


def start_process(name: str, niceness: int) -> subprocess.Popen[bytes]:
    """Start the child process for the chore `name`; it waits for its arguments."""
    return subprocess.Popen(  # nosec B603  # no shell, and no word of a client
        [
            sys.executable,
            "-m",
            "eventvault.chores",
            name,
            str(os.getpid()),
            str(niceness),
            str(clock.correction()),
            str(record_size.longest_value()),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).resolve().parent.parent,
        env=environment.for_child(KEEP_BUFFERS),
    )


def _cancelled(name: str) -> errors.Cancelled:
    return errors.Cancelled(f"{name} was cancelled because the store is stopping", hint="send the request again")


def subject_of(name: str, arguments: Mapping[str, Any]) -> str | None:
    """Return the name of what a chore reads, if that may be hostile."""
    return Path(str(arguments[READS[name]])).name if name in READS else None


@contextlib.contextmanager
def _private_folder(beneath: Path) -> Iterator[Path]:
    folder = beneath / f"{data_folders.RESTORING_PREFIX}{secrets.token_hex(4)}"
    folder.mkdir()
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError):  # the next start removes it
            remove_durably(folder)


def _died(name: str, status: int, subject: str | None) -> errors.EventVaultError:
    """Return the error of a child that died without an answer.

    SIGBUS means a bad sector in a table: tables are mapped into memory.
    """
    if status == -signal.SIGBUS:
        return errors.DiskFailed(
            f"{name} failed: the disk could not read a file that was mapped into memory",
            hint="check the disk of STORAGE_DIR; the system's log names it",
        )
    if subject is not None and -status in _CRASHES:
        return _unsafe(subject, f"it ended the process that read it ({signal.Signals(-status).name})")
    return errors.TooBusy(
        f"the {name} process ended with status {status} and no answer",
        hint="try again; the machine may have run out of memory: see the system's log",
    )


def as_event_vault_error(name: str, error: Exception, subject: str | None = None) -> errors.EventVaultError:
    """Convert an error of a chore. An error of the disk keeps its cause.

    subject: what the chore reads, if that may be hostile: then every other error is blamed on it.
    """
    if isinstance(error, errors.EventVaultError):
        return error
    if subject is None or (isinstance(error, OSError | plyvel.Error) and number_of(error) is not None):
        return as_answer(name, error)
    if isinstance(error, MemoryError):
        limit = _memory_limit() // 2**20
        return _unsafe(subject, f"it needs more memory than the {limit} MiB that it may take")
    return errors.ArchiveDamaged(
        f"reading {subject} failed: {type(error).__name__}: {str(error)[:200]}",
        hint="nothing was changed; restore another archive. The log has the details",
    )


def _unsafe(subject: str, why: str) -> errors.ArchiveUnsafe:
    return errors.ArchiveUnsafe(
        f"reading {subject} failed: {why}",
        hint="nothing was changed, and this archive is refused; restore another one",
    )


def _memory_limit() -> int:
    larger = max(0, record_size.longest_value() - record_size.DEFAULT_BODY_BYTES)
    return MEMORY_BYTES + len(os.sched_getaffinity(0)) * _MEMORY_PER_CORE + _COPIES_OF_RECORD * larger


def lower_priority(niceness: int) -> None:
    """Add to the niceness of this process; with IDLE_NICENESS its I/O class becomes idle too. Children inherit both."""
    os.nice(niceness)
    call = _IOPRIO_SET.get(os.uname().machine)
    if niceness >= IDLE_NICENESS and call is not None:
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).syscall(call, 1, 0, _IDLE_CLASS)


def _limit_memory() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    limit = _memory_limit() if most == resource.RLIM_INFINITY else min(most, _memory_limit())
    resource.setrlimit(resource.RLIMIT_DATA, (limit, most))


def main(name: str, parent: int, niceness: int, clock_correction: int, longest_value: int) -> None:
    """Run one chore in the child process.

    clock_correction: `clock.correction()` of the parent. longest_value: its `record_size.longest_value()`.
    """
    end_with_parent(parent)
    lower_priority(niceness)
    clock.use(lambda: clock.system_now() - clock_correction)
    record_size.use(longest_value)
    chore = getattr(importlib.import_module(CHORES[name]), name)
    gc.freeze()  # spares a garbage collection of the loaded modules when the process ends
    arguments = orjson.loads(sys.stdin.buffer.read())
    _limit_memory()
    lines = ProgressLines(_write)
    use_for_process(Operation(report=lines.report))
    answer = encodable(_answer_of(chore, name, arguments))
    lines.flush()
    _write(orjson.dumps(answer, default=str))


def _write(output: bytes) -> None:
    sys.stdout.buffer.write(output)
    sys.stdout.buffer.flush()


def _answer_of(chore: Callable[..., dict[str, Any]], name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    subject = subject_of(name, arguments)
    try:
        return {"result": chore(**arguments)}
    except (errors.EventVaultError, *SYSTEM_ERRORS) as error:
        return {"error": as_event_vault_error(name, error, subject).to_wire()}
    except Exception as error:
        if subject is None:
            raise
        log.exception("%s failed while it read %s", name, subject)
        return {"error": as_event_vault_error(name, error, subject).to_wire()}


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
