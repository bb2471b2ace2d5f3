"""Runs the worker of the service itself, `python -m worker --local`: one process, started again when it ends.

It outlives a dispatcher that dies, with the jobs that it runs: the next dispatcher of the same service adopts it. It
ends with a dispatcher that ends, or by itself if none comes.
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
"""What the handlers of the built-in types need in their environment; none is secret."""
DRAIN_SECONDS = 8
"""How long the worker has to finish or hand back its jobs, when the dispatcher ends."""
_KILLED_SECONDS = 5.0
_LOOK_SECONDS = 0.2
STOPPED_SECONDS = 30.0
"""A worker that a signal has stopped for so long is replaced: after two leases its jobs went on elsewhere."""
_LIVED_SECONDS = 5.0
"""A worker that lived for so long is started again at once."""
_BACK_OFF_SECONDS = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_NAMED = 2
"""After so many failures in a row health names them."""
_HINT = (
    "the log says why it ends, as for a module of WORKER_JOBS that cannot be imported; it is started again by itself, "
    "and jobs wait until then"
)


class _Noted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`jobs_worker.json`. born: when the process began, in ticks since the boot. service: the service start."""

    pid: int
    born: int
    service: str
    version: str
    format: Literal[1] = 1


class LocalWorker:
    """service: the service start. failure: why there was no worker lately; empty if one lives, or none shall."""

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
        """Let the worker finish or hand back its jobs, and wait for its end."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(DRAIN_SECONDS + _KILLED_SECONDS)

    def problems(self) -> list[Problem]:
        """Return what is wrong, for health."""
        if not self.failure or self._back_off.failures < _NAMED:
            return []
        message = f"the service's own worker of jobs does not stay: {self.failure}"
        return [Problem("local_worker_failed", message, _HINT)]

    def _run(self) -> None:
        self._live(self._find)
        while self._settings.jobs_local_concurrency and not self._stopping.is_set():
            self._live(self._begin)
            if not self._stopping.is_set():
                seconds = self._back_off.fail()
                log.error("%s; the next one is started in %s s", self.failure, seconds)
                self._stopping.wait(seconds)

    def _live(self, begin: Callable[[], _Process | None]) -> None:
        """Return when the worker that `begin` returns has ended, if it returns one."""
        with self._unforeseen.survived():
            try:
                if (process := begin()) is not None:
                    self._watch(process)
            except (OSError, EventVaultError) as error:
                self.failure = f"the local worker cannot be started: {error}"
        if self._unforeseen.newest:
            self.failure = f"unexpectedly, {self._unforeseen.newest}"

    def _find(self) -> _Process | None:
        """Return the worker of the dispatcher before, if it belongs to this service start; another one is ended."""
        noted = small_files.read_or_quarantine(self._file, _Noted)
        if noted is None or birth_of(noted.pid) != noted.born:
            return None
        with contextlib.suppress(OSError):
            process = _Process(noted.pid)
            if birth_of(noted.pid) != noted.born:
                process.close()
                return None
            if (noted.service, noted.version) == (self._service, __version__) and self._settings.jobs_local_concurrency:
                log.info("the local worker, process %s, is adopted", noted.pid)
                return process
            log.info("ending the local worker, process %s, of an earlier start or another version", noted.pid)
            process.end()
        return None

    def _begin(self) -> _Process:
        variables = {
            "WORKER_DRAIN_SECONDS": str(min(self._settings.worker_drain_seconds, DRAIN_SECONDS - 3)),
            "WORKER_ENV": ",".join(dict.fromkeys([*self._settings.worker_env, *BUILTIN_VARIABLES])),
        }
        process = _Process(start_detached(self._settings, self._command, variables, own_errors(), with_secrets=False))
        noted = _Noted(process.pid, birth_of(process.pid) or 0, self._service, __version__)
        try:
            small_files.write(self._file, noted)
        except (OSError, EventVaultError) as error:  # then the next dispatcher starts another one, and this one ends
            log.warning("could not record the local worker in %s: %s", self._file, error)
        return process

    def _watch(self, process: _Process) -> None:
        """Return when the worker has ended; it is ended if this object is stopped, or cannot watch it."""
        settles = time.monotonic() + _LIVED_SECONDS
        stopped_looks = 0  # not seconds, as this process may have been stopped too
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
    """A worker process, which need not be a child of this one."""

    def __init__(self, process: subprocess.Popen[bytes] | int) -> None:
        """Raises OSError if it has ended."""
        self._child = None if isinstance(process, int) else process
        self.pid = process if isinstance(process, int) else process.pid
        self._handle = os.pidfd_open(self.pid)

    def wait(self, seconds: float) -> bool:
        """Return whether it has ended, after at most so many seconds."""
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
        """Return with which status it ended; None if only its parent knows."""
        self.close()
        return None if self._child is None else self._child.wait(_KILLED_SECONDS)

    def close(self) -> None:
        os.close(self._handle)

    def _send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, number)
