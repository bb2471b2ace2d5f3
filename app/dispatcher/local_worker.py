"""Runs the service's own worker, `python -m worker --local`: one process, started again when it ends.

If the dispatcher dies, the worker and its jobs go on, and the next dispatcher of the same service adopts the worker. If
the dispatcher ends in order, it ends the worker. A worker without a dispatcher ends after a while.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Literal

import msgspec

from eventvault import __version__, data_folders, small_files
from eventvault.back_off import BackOff
from eventvault.errors import EventVaultError
from eventvault.problems import Problem
from eventvault.settings import Settings
from eventvault.store.process.detached import own_errors, start_detached
from eventvault.store.process.ownership import birth_of, is_stopped
from eventvault.unforeseen import Unforeseen

log = logging.getLogger("jobs")

COMMAND = (sys.executable, "-m", "worker", "--local", "app.builtin_jobs")
BUILTIN_VARIABLES = ("STORAGE_DIR", "BACKUP_DIR", "RESTORE_DIR", "WEBHOOK_SECRET_FILE", "WEBHOOK_ALLOWED_NETWORKS")
"""Environment variables that the handlers of the built-in types need; none is secret."""
DRAIN_SECONDS = 8
"""How long the worker has to finish or return its jobs when the dispatcher ends."""
_KILLED_SECONDS = 5.0
_LOOK_SECONDS = 0.2
STOPPED_SECONDS = 30.0
"""A worker that a signal has stopped for this long is replaced: after two leases its jobs run elsewhere."""
_LIVED_SECONDS = 5.0
"""A worker that lived for this long is started again without a pause."""
_BACK_OFF_SECONDS = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_REPORTED_FAILURES = 2
"""Number of failures in a row from which on health reports them."""
_HINT = (
    "the log says why it ends: for instance, a module of WORKER_JOBS cannot be imported; it is started again "
    "automatically, and jobs wait until then"
)


class _StoredWorker(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`jobs_worker.json`. born: when the process started, in ticks since the boot. service: the service start."""

    pid: int
    born: int
    service: str
    version: str
    format: Literal[1] = 1


class LocalWorker:
    """service: the service start. failure: why the last worker ended; empty if one runs, or none is wanted."""

    def __init__(self, settings: Settings, service: str, command: tuple[str, ...] = COMMAND) -> None:
        self.failure = ""
        self._settings = settings
        self._service = service
        self._command = command
        self._file = settings.storage_dir / data_folders.JOBS_WORKER
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="local worker", daemon=True)
        self._back_off = BackOff(*_BACK_OFF_SECONDS)
        self._unforeseen = Unforeseen("what keeps the local worker running", log)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Let the worker finish or return its jobs, and wait for its end."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(DRAIN_SECONDS + _KILLED_SECONDS)

    def problems(self) -> list[Problem]:
        """Return the problem for health, if the worker keeps ending."""
        if not self.failure or self._back_off.failures < _REPORTED_FAILURES:
            return []
        message = f"the service's own worker of jobs keeps ending: {self.failure}"
        return [Problem("local_worker_failed", message, _HINT)]

    def _run(self) -> None:
        self._watch_safely(self._adopt)
        while self._settings.jobs_local_concurrency and not self._stopping.is_set():
            self._watch_safely(self._begin)
            if not self._stopping.is_set():
                seconds = self._back_off.fail()
                log.error("%s; the next one is started in %s s", self.failure, seconds)
                self._stopping.wait(seconds)

    def _watch_safely(self, begin: Callable[[], _Process | None]) -> None:
        """Watch the worker that `begin` returns until its end; an error becomes `failure`."""
        with self._unforeseen.survived():
            try:
                if (process := begin()) is not None:
                    self._watch(process)
            except (OSError, EventVaultError) as error:
                self.failure = f"the local worker cannot be started: {error}"
        if self._unforeseen.newest:
            self.failure = f"unexpectedly, {self._unforeseen.newest}"

    def _adopt(self) -> _Process | None:
        """Return the worker of an earlier dispatcher of this service start; end a worker of another service start."""
        earlier = small_files.read_or_quarantine(self._file, _StoredWorker)
        if earlier is None or birth_of(earlier.pid) != earlier.born:
            return None
        with contextlib.suppress(OSError):
            process = _Process(earlier.pid)
            if birth_of(earlier.pid) != earlier.born:
                process.close()
                return None
            is_ours = (earlier.service, earlier.version) == (self._service, __version__)
            if is_ours and self._settings.jobs_local_concurrency:
                log.info("the local worker, process %s, is adopted", earlier.pid)
                return process
            log.info("ending the local worker, process %s, of an earlier start or another version", earlier.pid)
            process.end()
        return None

    def _begin(self) -> _Process:
        variables = {
            "WORKER_DRAIN_SECONDS": str(min(self._settings.worker_drain_seconds, DRAIN_SECONDS - 3)),
            "WORKER_ENV": ",".join(dict.fromkeys([*self._settings.worker_env, *BUILTIN_VARIABLES])),
        }
        process = _Process(start_detached(self._settings, self._command, variables, own_errors(), with_secrets=False))
        stored = _StoredWorker(process.pid, birth_of(process.pid) or 0, self._service, __version__)
        try:
            small_files.write(self._file, stored)
        except (OSError, EventVaultError) as error:  # the next dispatcher cannot adopt this worker, which then ends
            log.warning("could not record the local worker in %s: %s", self._file, error)
        return process

    def _watch(self, process: _Process) -> None:
        """Return when the worker has ended. End it if this object is stopped, or fails to watch it."""
        settles = time.monotonic() + _LIVED_SECONDS
        stopped_looks = 0  # a count, not a time: this process may have been stopped, too
        try:
            while not process.wait(_LOOK_SECONDS):
                if self._stopping.is_set():
                    process.end()
                    return
                stopped_looks = stopped_looks + 1 if is_stopped(process.pid) else 0
                if stopped_looks * _LOOK_SECONDS >= STOPPED_SECONDS:
                    log.error("the local worker, process %s, was stopped by a signal and is replaced", process.pid)
                    process.kill()
                if self.failure and time.monotonic() > settles:
                    self._back_off.succeed()
                    self.failure = ""
        except Exception:
            process.end()
            raise
        if time.monotonic() > settles:
            self._back_off.succeed()
        status = process.status()
        self.failure = f"the local worker ended{'' if status is None else f' with status {status}'}"


class _Process:
    """A worker process, which may be a child of another process."""

    def __init__(self, process: subprocess.Popen[bytes] | int) -> None:
        """Open a descriptor of the process. Raises OSError if it has ended."""
        self._child = None if isinstance(process, int) else process
        self.pid = process if isinstance(process, int) else process.pid
        self._handle = os.pidfd_open(self.pid)

    def wait(self, seconds: float) -> bool:
        """Wait at most so many seconds for its end. Returns whether it has ended."""
        poll = select.poll()
        poll.register(self._handle, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def kill(self) -> None:
        self._send(signal.SIGKILL)

    def end(self) -> None:
        """Let it drain, and kill it if it does not end."""
        self._send(signal.SIGTERM)
        if not self.wait(DRAIN_SECONDS):
            log.warning("the local worker, process %s, does not end within %s s and is killed", self.pid, DRAIN_SECONDS)
            self.kill()
            self.wait(_KILLED_SECONDS)
        self.status()

    def status(self) -> int | None:
        """Return its exit status; None if it is not a child of this process. Closes the descriptor."""
        self.close()
        return None if self._child is None else self._child.wait(_KILLED_SECONDS)

    def close(self) -> None:
        os.close(self._handle)

    def _send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, number)
