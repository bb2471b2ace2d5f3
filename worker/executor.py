"""The process that runs handlers, one at a time. The nursery forks it; the supervisor talks to it over a socket.

It has one thread. So a handler runs in the main thread, where a signal interrupts its waits. To stop a handler, the
supervisor sends a message and then a signal. The signal alone does nothing, so a late signal never stops the next
handler.
"""

from __future__ import annotations

import faulthandler
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from eventvault.exit_statuses import DONE
from eventvault.jobs.job import JobError, JobProgress
from eventvault.jobs.messages import MAX_FRAME_BYTES, Done, Failed, Progressed, Run, Stop, decode_work, encode
from eventvault.rpc.frames import FrameBuffer, framed
from worker import attempt
from worker.descendants import adopt_orphans, end_processes
from worker.jobs import Stopped
from worker.protocol import STOP_SIGNAL, Outcome

PROGRESS_SECONDS = 0.01
"""Progress that comes sooner after the last one is not sent."""
_READ_BYTES = 256 * 1024
_LIKELY_VICTIM = b"500"
"""Score with which the kernel, out of memory, ends an executor before a supervisor."""


class Executor:
    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._process = os.getpid()
        self._frames = FrameBuffer(MAX_FRAME_BYTES)
        self._inbox: deque[Run | Stop] = deque()
        self._running: str | None = None
        """Token of the attempt whose handler runs."""
        self._stopped: str | None = None
        """Token of the last attempt that was stopped. An attempt is stopped only once."""
        self._is_shielded = False
        self._signal_came = False
        self._sending = threading.Lock()
        self._progress_sent = 0.0

    def serve(self) -> None:
        """Run attempts until the supervisor closes the socket, or dies."""
        signal.signal(STOP_SIGNAL, lambda _, __: self._on_signal())
        while (message := self._next()) is not None:
            if isinstance(message, Run):
                self._send(encode(self._carry_out(message)))

    def _next(self) -> Run | Stop | None:
        while not self._inbox:
            received = self._connection.recv(_READ_BYTES)
            if not received:
                return None
            self._decode(received)
        return self._inbox.popleft()

    def _decode(self, received: bytes) -> None:
        for message in self._frames.feed(received):
            work = decode_work(message)
            if isinstance(work, Run | Stop):
                self._inbox.append(work)

    def _carry_out(self, run: Run) -> Outcome:
        began = time.monotonic()
        try:
            self._running = run.token
            self._on_signal()  # the signal may have come before the attempt was read
            outcome = attempt.carry_out(run, self._progress_of(run))
        except Stopped as stopped:  # the signal came after the handler had ended
            outcome = attempt.outcome_of(run, stopped, time.monotonic() - began)
        finally:
            self._running = None
        self._end_if_copy()
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):  # a handler may have closed or replaced it
                stream.flush()
        return _fail_if_processes(run, outcome, end_processes())

    def _end_if_copy(self) -> None:
        """End this process if the handler forked it, and it returned from the handler, too: only the parent reports."""
        if os.getpid() != self._process:
            os._exit(DONE)

    def _progress_of(self, run: Run) -> Callable[[JobProgress], None]:
        def send(progress: JobProgress) -> None:
            now = time.monotonic()
            if os.getpid() == self._process and now - self._progress_sent >= PROGRESS_SECONDS:
                self._progress_sent = now
                self._send(encode(Progressed(session=run.to, token=run.token, job=run.job, progress=progress)))

        return send

    def _send(self, message: bytes) -> None:
        with self._shielded(), self._sending:
            self._connection.sendall(framed(message))

    @contextmanager
    def _shielded(self) -> Iterator[None]:
        """Delay a stop, so that no message is sent in part."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._is_shielded = True
        try:
            yield
        finally:
            self._is_shielded = False
        if self._signal_came:
            self._on_signal()

    def _on_signal(self) -> None:
        """Raise Stopped in the handler, if the stop is for its attempt. Runs in the main thread."""
        if os.getpid() != self._process or self._running is None or self._running == self._stopped:
            return
        self._signal_came = self._is_shielded
        if self._is_shielded:
            return
        with suppress(BlockingIOError):
            while received := self._connection.recv(_READ_BYTES, socket.MSG_DONTWAIT):
                self._decode(received)
        for message in self._inbox:
            if isinstance(message, Stop) and self._running in message.stop:
                self._stopped = self._running
                raise Stopped(message.reason)  # type: ignore[arg-type]


def main(connection: socket.socket, output: int, memory: int) -> NoReturn:
    """Become an executor, in the process that the nursery forked. memory: bytes."""
    connection.set_inheritable(False)
    for stream in (sys.stdout.fileno(), sys.stderr.fileno()):
        os.dup2(output, stream)
    os.close(output)
    faulthandler.enable(2)
    adopt_orphans()
    _limit(memory)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_bytes(_LIKELY_VICTIM)
    with suppress(OSError):  # the supervisor is gone
        Executor(connection).serve()
    os._exit(DONE)


def _limit(memory: int) -> None:
    """Limit the memory that this process, and each of its children, may allocate. A crash leaves no core file."""
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    limit = memory if most == resource.RLIM_INFINITY else min(most, memory)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _fail_if_processes(run: Run, outcome: Outcome, ended: list[str]) -> Outcome:
    """Return a failure if processes of the handler had to be ended: nobody would learn the result of their work."""
    if not ended or not isinstance(outcome, Done):
        return outcome
    text = ", ".join(ended[:5]) + (f" and {len(ended) - 5} more" if len(ended) > 5 else "")
    message = f"the handler returned while processes that it had started still ran; they were ended: {text}"
    error = JobError("job_left_processes", message)
    return Failed(session=run.to, token=run.token, job=run.job, seconds=outcome.seconds, error=error)
