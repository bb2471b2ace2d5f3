"""The executors of a supervisor: has the nursery fork them, gives them attempts, and replaces them when they end.

Nothing here waits. The messages of executors and of the nursery come as events of one selector.
"""

from __future__ import annotations

import itertools
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Protocol

import msgspec

from eventvault.jobs.messages import DECODE_ERRORS, MAX_FRAME_BYTES, Run, Stop, encode
from eventvault.rpc.frames import FrameBuffer, framed
from worker.output import Output
from worker.protocol import (
    END_OF_CATALOGUE,
    LONGEST_MESSAGE,
    PATH_VARIABLE,
    PING,
    STOP_SIGNAL,
    Alive,
    Declared,
    Ended,
    ExecutorReport,
    Forked,
    NurseryOptions,
    NurseryReport,
    StopReason,
)

log = logging.getLogger("worker")

PING_SECONDS = 5.0
"""How often the nursery is asked whether it makes progress."""
ANSWER_SECONDS = 20.0
"""How long a nursery may owe an answer before it is replaced: a handler may have stopped it."""
_LONGEST_TURN = 1.0
"""Most seconds that are counted from one `tend` to the next, as both this process and the nursery may be stopped."""
LEAST_PAUSE, LONGEST_PAUSE = 0.1, 30.0
"""Seconds between the end of a nursery and the start of the next one; they double each time."""
_HEALTHY_SECONDS = 60.0
"""After a nursery that lived for this long, the pause is LEAST_PAUSE again."""
_READ_BYTES = 256 * 1024
_executor_report = msgspec.json.Decoder(ExecutorReport)
_nursery_report = msgspec.json.Decoder(NurseryReport)
_declared = msgspec.json.Decoder(Declared)


class Listener(Protocol):
    """Receives the events of executors."""

    def declared(self, declared: Declared) -> None:
        """The nursery has imported the modules, or cannot import one of them."""

    def reported(self, slot: Slot, report: ExecutorReport) -> None:
        """An executor reports about the attempt that `slot` still runs."""

    def ended(self, slot: Slot, status: int | None) -> None:
        """An executor ended during an attempt. status: as from os.waitpid; None if the nursery ended, too."""


@dataclass(eq=False)
class Slot:
    """One executor. process: its descriptor, once it is forked. run: its present attempt; began: when (monotonic).

    stop: why the attempt must end. kill_at: when the process is killed if it still runs.
    """

    number: int
    connection: socket.socket
    output: Output
    process: int | None = None
    run: Run | None = None
    began: float = 0.0
    stop: StopReason | None = None
    kill_at: float | None = None
    jobs: int = 0
    is_retiring: bool = False
    is_started_reported: bool = False
    frames: FrameBuffer = field(default_factory=lambda: FrameBuffer(MAX_FRAME_BYTES))
    unsent: bytearray = field(default_factory=bytearray)

    @property
    def is_free(self) -> bool:
        return self.process is not None and self.run is None and not self.is_retiring


class Pool:
    """Belongs to one thread, which calls the `data` of each event of `selector`."""

    def __init__(
        self, selector: selectors.BaseSelector, listener: Listener, *, size: int, jobs_per_process: int,
        memory: int, modules: Sequence[str], variables: Mapping[str, str], log_level: str,
    ) -> None:  # fmt: skip
        """variables: the environment of the handlers. memory: bytes of one executor."""
        self._selector = selector
        self._listener = listener
        self._size = size
        self._jobs_per_process = jobs_per_process
        self._memory = memory
        self._modules = list(modules)
        self._variables = dict(variables)
        self._log_level = log_level
        self._numbers = itertools.count(1)
        self._slots: dict[int, Slot] = {}
        self._program: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._catalogue: FileIO | None = None
        """The pipe over which the present nursery sends its `Declared`; None once that was received."""
        self._catalogue_text = bytearray()
        self._is_ready = False
        self._was_ready = False
        self._begun_at = 0.0
        self._tended_at = 0.0
        self._ping_at = 0.0
        self._silent_for: float | None = None
        """How long the nursery has owed an answer, in seconds; None if it owes none."""
        self._pause = LEAST_PAUSE
        self._begin_at = 0.0
        self._closed = False

    @property
    def slots(self) -> list[Slot]:
        return list(self._slots.values())

    @property
    def busy(self) -> list[Slot]:
        return [slot for slot in self._slots.values() if slot.run is not None]

    def free(self) -> Slot | None:
        return next((slot for slot in self._slots.values() if slot.is_free), None)

    def tend(self, now: float) -> None:
        """Do what is due: start a nursery, ask for executors, kill executors that did not end in time."""
        if self._program is None and not self._closed and now >= self._begin_at:
            self._start_nursery(now)
        if self._is_ready and not self._closed:
            while sum(not slot.is_retiring for slot in self._slots.values()) < self._size and self._is_ready:
                self._ask_for_executor()
        for slot in self.slots:
            if slot.kill_at is not None and now >= slot.kill_at:
                self.kill(slot)
        self._watch_nursery(now)

    def next_due(self) -> float | None:
        """Return when `tend` must be called at the latest (monotonic); None if nothing is due."""
        due = [slot.kill_at for slot in self._slots.values() if slot.kill_at is not None]
        if self._program is None and not self._closed:
            due.append(self._begin_at)
        return min(due, default=None)

    def start(self, slot: Slot, run: Run, now: float) -> None:
        slot.run, slot.began = run, now
        slot.stop, slot.kill_at, slot.is_started_reported = None, None, False
        self._send(slot, encode(run))

    def stop(self, slot: Slot, reason: StopReason, kill_at: float) -> None:
        """End the handler with an exception; kill its process at `kill_at` (monotonic) if it still runs."""
        if slot.run is None or slot.stop is not None:
            return
        slot.stop, slot.kill_at = reason, kill_at
        self._send(slot, encode(Stop(to=slot.run.to, stop=[slot.run.token], reason=reason)))
        _signal(slot, STOP_SIGNAL)

    def finish(self, slot: Slot, *, retire: bool) -> None:
        """Free an executor whose attempt has ended. retire: replace its process, because the attempt has changed it."""
        slot.run, slot.kill_at, slot.stop = None, None, None
        slot.jobs += 1
        if retire or slot.jobs >= self._jobs_per_process:
            self._retire(slot, time.monotonic())

    def kill(self, slot: Slot) -> None:
        _signal(slot, signal.SIGKILL)
        slot.kill_at = None

    def close(self) -> None:
        self._closed = True
        self._end_nursery()

    def _retire(self, slot: Slot, now: float) -> None:
        """Let an executor end, and kill it if it does not."""
        slot.is_retiring = True
        slot.kill_at = now + LEAST_PAUSE
        with suppress(OSError):
            slot.connection.shutdown(socket.SHUT_WR)

    # The nursery.

    def _watch_nursery(self, now: float) -> None:
        """Replace a nursery that makes no progress: it would not report the end of its executors."""
        passed, self._tended_at = min(now - self._tended_at, _LONGEST_TURN), now
        if self._program is None or self._control is None:
            return
        if not self._is_ready:
            if self._program.poll() is not None:  # a process that a module forked may hold the socket open
                self._note_end()
            return
        if self._silent_for is not None:
            self._silent_for += passed
            if self._silent_for >= ANSWER_SECONDS:
                log.error("the process that forks executors makes no progress and is replaced")
                self._program.kill()
                self._end_nursery()
        elif now >= self._ping_at:
            with suppress(OSError):
                self._control.send(PING)
            self._silent_for, self._ping_at = 0.0, now + PING_SECONDS

    def _start_nursery(self, now: float) -> None:
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        reading, their_catalogue = os.pipe()
        catalogue = FileIO(reading)
        options = NurseryOptions(
            theirs.fileno(), their_catalogue, os.getpid(), self._modules, self._memory, self._log_level,
            self._variables.get(PATH_VARIABLE),
        )  # fmt: skip
        path = os.pathsep.join(str(Path(folder).absolute()) for folder in sys.path)
        try:
            self._program = subprocess.Popen(  # nosec B603  # no shell
                [sys.executable, "-m", "worker.nursery", msgspec.json.encode(options).decode()],
                env={**self._variables, PATH_VARIABLE: path},
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), their_catalogue),
                start_new_session=True,  # Ctrl-C on a terminal is for the supervisor, which drains
            )
        finally:
            theirs.close()
            os.close(their_catalogue)
        control.setblocking(False)
        os.set_blocking(reading, False)
        self._control, self._begun_at, self._silent_for = control, now, None
        self._selector.register(control, selectors.EVENT_READ, self._read_nursery)
        self._catalogue, self._catalogue_text = catalogue, bytearray()
        self._selector.register(catalogue, selectors.EVENT_READ, self._read_catalogue)

    def _read_catalogue(self) -> None:
        if self._catalogue is None:  # the nursery ended in the same turn, and `_note_end` has read the rest
            return
        read = os.read(self._catalogue.fileno(), _READ_BYTES)
        self._catalogue_text += read
        if not self._has_declared:
            if not read:  # the nursery has ended, which another event shows
                self._close_catalogue()
            return
        self._close_catalogue()
        declared = _declared.decode(self._catalogue_text)
        self._is_ready = declared.error is None
        self._was_ready |= self._is_ready
        self._listener.declared(declared)

    @property
    def _has_declared(self) -> bool:
        return self._catalogue_text.endswith(END_OF_CATALOGUE)

    def _close_catalogue(self) -> None:
        if self._catalogue is not None:
            self._selector.unregister(self._catalogue)
            self._catalogue.close()
            self._catalogue = None

    def _read_nursery(self) -> None:
        control = self._control
        while control is not None and control is self._control:
            try:
                message, handles, _, _ = socket.recv_fds(control, LONGEST_MESSAGE, 1)
            except BlockingIOError:
                return
            except OSError:
                message, handles = b"", []
            if not message:
                self._note_end()
                return
            report = _nursery_report.decode(message)
            if isinstance(report, Alive):
                self._silent_for = None
            else:
                self._note_report(report, handles)

    def _note_end(self) -> None:
        """Handle the end of the nursery. First read its `Declared`, because its end may be noticed earlier."""
        with suppress(BlockingIOError):
            while self._catalogue is not None:
                self._read_catalogue()
        self._end_nursery()

    def _note_report(self, report: Forked | Ended, handles: list[int]) -> None:
        slot = self._slots.get(report.number)
        if slot is None:
            for handle in handles:
                os.close(handle)
        elif isinstance(report, Forked):
            slot.process = handles[0]
        else:
            self._remove(slot, report.status)

    def _ask_for_executor(self) -> None:
        ours, theirs = socket.socketpair()
        reading, writing = os.pipe()
        ours.setblocking(False)
        slot = Slot(next(self._numbers), ours, Output(reading))
        assert self._control is not None  # nosec B101  # for the type checker
        try:
            socket.send_fds(self._control, [str(slot.number).encode()], [theirs.fileno(), writing])
        except OSError:
            ours.close()
            slot.output.close()
            self._end_nursery()
            return
        finally:
            theirs.close()
            os.close(writing)
        self._slots[slot.number] = slot
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._read(slot))
        self._selector.register(reading, selectors.EVENT_READ, lambda: self._drain(slot))

    def _end_nursery(self) -> None:
        """End the nursery and all its executors. After a pause, another nursery is started."""
        self._is_ready = False
        if self._control is not None:
            self._selector.unregister(self._control)
            self._control.close()  # the nursery then ends its executors and itself
            self._control = None
        self._close_catalogue()
        for slot in self.slots:
            self.kill(slot)
            self._remove(slot, None)
        program, self._program = self._program, None
        if program is None:
            return
        status = _end(program)
        if not self._closed:
            log.error("the process that forks executors ended with status %s, and is replaced", status)
        if not self._has_declared and not self._was_ready and status is not None and status > 0:
            self._listener.declared(Declared(error=f"the process that imports the modules ended with status {status}"))
        now = time.monotonic()
        self._pause = LEAST_PAUSE if now - self._begun_at > _HEALTHY_SECONDS else min(2 * self._pause, LONGEST_PAUSE)
        self._begin_at = now + self._pause

    # An executor.

    def _read(self, slot: Slot) -> None:
        if slot.number not in self._slots:  # it was removed while this event waited
            return
        try:
            received = slot.connection.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if not received:  # the nursery reports how it ended
            self._selector.unregister(slot.connection)
            return
        self._process(slot, received)

    def _process(self, slot: Slot, received: bytes) -> None:
        try:
            for message in slot.frames.feed(received):
                report = _executor_report.decode(message)
                if slot.run is not None and slot.run.token == report.token:
                    slot.output.drain()
                    self._listener.reported(slot, report)
        except (ConnectionError, *DECODE_ERRORS) as error:
            log.warning("an executor wrote something that is not a report, and is killed: %s", error)
            self.kill(slot)

    def _drain(self, slot: Slot) -> None:
        if slot.number not in self._slots:
            return
        if not slot.output.drain():
            self._selector.unregister(slot.output.handle)
        elif slot.run is None:
            slot.output.take()  # drop the output of a thread that a handler has not ended

    def _send(self, slot: Slot, message: bytes) -> None:
        slot.unsent += framed(message)
        self._flush(slot)

    def _flush(self, slot: Slot) -> None:
        try:
            while slot.unsent:
                del slot.unsent[: slot.connection.send(slot.unsent)]
        except BlockingIOError:
            self._listen(slot, selectors.EVENT_READ | selectors.EVENT_WRITE, lambda: self._read_and_flush(slot))
            return
        except OSError:  # the executor has ended, which the nursery reports
            slot.unsent.clear()

    def _read_and_flush(self, slot: Slot) -> None:
        self._listen(slot, selectors.EVENT_READ, lambda: self._read(slot))
        self._read(slot)
        self._flush(slot)

    def _listen(self, slot: Slot, events: int, callback: Callable[[], None]) -> None:
        with suppress(KeyError):
            self._selector.modify(slot.connection, events, callback)

    def _remove(self, slot: Slot, status: int | None) -> None:
        """Remove an executor that has ended, after processing its last reports."""
        with suppress(OSError):
            while received := slot.connection.recv(_READ_BYTES):
                self._process(slot, received)
        slot.output.drain()
        if slot.run is not None:
            self._listener.ended(slot, status)
        del self._slots[slot.number]
        for handle in (slot.connection, slot.output.handle):
            with suppress(KeyError):
                self._selector.unregister(handle)
        slot.connection.close()
        slot.output.close()
        if slot.process is not None:
            os.close(slot.process)


def _end(program: subprocess.Popen[bytes]) -> int | None:
    """Wait for the nursery, which ends once its socket is closed; kill it if it does not. Returns its status."""
    for seconds in (1.0, 5.0):
        try:
            return program.wait(seconds)
        except subprocess.TimeoutExpired:
            program.kill()
    return None


def _signal(slot: Slot, number: signal.Signals) -> None:
    if slot.process is not None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(slot.process, number)
