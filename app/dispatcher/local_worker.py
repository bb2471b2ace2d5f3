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
from typing import Literal

import msgspec

from eventvault import __version__, data_folders, small_files
from eventvault.errors import EventVaultError
from eventvault.settings import Settings
from eventvault.store.process.ownership import birth_of
from eventvault.store.process.spawn import own_errors, start_detached

log = logging.getLogger("jobs")

COMMAND = (sys.executable, "-m", "worker", "--local", "app.builtin_jobs")
BUILTIN_VARIABLES = ("STORAGE_DIR", "BACKUP_DIR", "RESTORE_DIR", "WEBHOOK_SECRET_FILE", "WEBHOOK_ALLOWED_NETWORKS")
"""What the handlers of the built-in types need in their environment; none is secret."""
DRAIN_SECONDS = 8
"""How long the worker has to finish or hand back its jobs, when the dispatcher ends."""
_KILLED_SECONDS = 5.0
_LOOK_SECONDS = 0.2
_LIVED_SECONDS = 5.0
"""A worker that lived for so long is started again at once."""
_BACK_OFF_SECONDS = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class _Noted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`jobs_worker.json`. born: when the process began, in ticks since the boot. service: the service start."""

    pid: int
    born: int
    service: str
    version: str
    format: Literal[1] = 1


class LocalWorker:
    """service: the service start. failure: why there is no worker now; empty if there is, or should be none."""

    def __init__(self, settings: Settings, service: str, command: tuple[str, ...] = COMMAND) -> None:
        self.failure = ""
        self._settings = settings
        self._service = service
        self._command = command
        self._file = settings.storage_dir / data_folders.JOBS_WORKER
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="local worker", daemon=True)
        self._failures = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Let the worker finish or hand back its jobs, and wait for its end."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(DRAIN_SECONDS + _KILLED_SECONDS)

    def _run(self) -> None:
        adopted = self._find()
        if adopted is not None:
            log.info("the local worker, process %s, is adopted", adopted.pid)
            self._watch(adopted)
        while self._settings.jobs_local_concurrency and not self._stopping.is_set():
            began = time.monotonic()
            try:
                self._watch(self._begin())
            except (OSError, EventVaultError) as error:
                self.failure = f"the local worker cannot be started: {error}"
            if not self._stopping.is_set():
                self._pause(time.monotonic() - began)

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
            log.warning("the local worker cannot be noted in %s: %s", self._file, error)
        return process

    def _watch(self, process: _Process) -> None:
        """Return when the worker has ended; it is ended if this object is stopped."""
        self.failure = ""
        while not process.wait(_LOOK_SECONDS):
            if self._stopping.is_set():
                process.end()
                return
        status = process.status()
        self.failure = f"the local worker ended{'' if status is None else f' with status {status}'}"

    def _pause(self, lived: float) -> None:
        """Wait before the next start, longer after each failure in a row."""
        self._failures = 1 if lived > _LIVED_SECONDS else self._failures + 1
        seconds = _BACK_OFF_SECONDS[min(self._failures, len(_BACK_OFF_SECONDS)) - 1]
        log.error("%s; the next one is started in %s s", self.failure, seconds)
        self._stopping.wait(seconds)


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

    def end(self) -> None:
        """Let it drain, and kill it if it does not end."""
        self._send(signal.SIGTERM)
        if not self.wait(DRAIN_SECONDS):
            log.warning("the local worker, process %s, does not end within %s s and is killed", self.pid, DRAIN_SECONDS)
            self._send(signal.SIGKILL)
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
