"""Chores of a store that runs in the test process: processes of their own as always, but with their modules loaded.

A chore is a new Python that loads what it needs, and the tests begin more than a thousand. Here one process a session
has loaded all of it and forks for each chore: it has neither threads nor an open database. `python -m
tests.chore_processes` is that process. The store processes that tests start begin their chores as ever.
"""

from __future__ import annotations

import importlib
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import IO

import orjson

from eventvault import chores, clock, record_size
from eventvault.orphans import end_with_parent

PROJECT = Path(__file__).resolve().parent.parent
_NUMBER = struct.Struct("i")


class ChoreProcess:
    """A chore under way, with what `Chores` uses of `subprocess.Popen`."""

    def __init__(self, server: socket.socket, name: str, niceness: int) -> None:
        arguments, sent = os.pipe()
        self.stdin: IO[bytes] | None = os.fdopen(sent, "wb")
        self._answer, answer = os.pipe()
        self._status, status = os.pipe()
        environment = {**os.environ, **chores.KEEP_BUFFERS}
        request = orjson.dumps([name, niceness, clock.correction(), record_size.longest_value(), environment])
        socket.send_fds(server, [request], [arguments, answer, 2, status])
        for handle in (arguments, answer, status):
            os.close(handle)
        self.pid = _read_number(self._status)
        self.returncode: int | None = None
        self._read: list[bytes] = []
        self._process: int | None = None
        with suppress(ProcessLookupError):
            self._process = os.pidfd_open(self.pid)

    def communicate(self, timeout: float = 600) -> tuple[bytes, None]:
        deadline = time.monotonic() + timeout
        while select.select([self._answer], [], [], max(0.0, deadline - time.monotonic()))[0]:
            piece = os.read(self._answer, 2**20)
            self._read.append(piece)
            if not piece:
                os.close(self._answer)
                self.returncode = _read_number(self._status)
                os.close(self._status)
                return b"".join(self._read), None
        raise subprocess.TimeoutExpired("chore", timeout, b"".join(self._read))

    def kill(self) -> None:
        """Kill it unless it has ended; its number may be another process's by then, a descriptor of it may not."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._process, signal.SIGKILL)

    def __del__(self) -> None:
        if self._process is not None:
            os.close(self._process)


class ChoreServer:
    """The process that forks, started by the first chore."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def start_process(self, name: str, niceness: int) -> ChoreProcess:
        with self._lock:
            if self._connection is None:
                self._connection = self._start()
            return ChoreProcess(self._connection, name, niceness)

    def stop(self) -> None:
        if self._connection is not None and self._process is not None:
            self._connection.close()
            self._process.wait(60)

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-m", "tests.chore_processes", str(theirs.fileno())]
            self._process = subprocess.Popen(command, cwd=PROJECT, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        return ours


def serve(connection: socket.socket) -> None:
    """Fork for each request until the test process is gone."""
    for module in chores.CHORES.values():
        importlib.import_module(module)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel collects the watchers
    while True:
        request, handles, _, _ = socket.recv_fds(connection, 2**20, 4)
        if not request:
            return
        if os.fork() == 0:
            connection.close()
            watch(request, handles)
        for handle in handles:
            os.close(handle)


def watch(request: bytes, handles: list[int]) -> None:
    """Fork the chore, and tell its process id and its exit status."""
    *streams, status = handles
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    end_with_parent(os.getppid())
    pid = os.fork()
    if pid == 0:
        os.close(status)
        do(request, streams)
    for stream in streams:
        os.close(stream)
    os.write(status, _NUMBER.pack(pid))
    ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.write(status, _NUMBER.pack(ended))
    os._exit(0)


def do(request: bytes, streams: list[int]) -> None:
    status = 1
    try:
        name, niceness, clock_correction, longest_value, environment = orjson.loads(request)
        os.environ.clear()
        os.environ.update(environment)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        chores.main(name, os.getppid(), niceness, clock_correction, longest_value)
        sys.stdout.flush()
        status = 0
    except BaseException:  # noqa: BLE001 - as Python does at the end of a program
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _read_number(handle: int) -> int:
    number: int = _NUMBER.unpack(os.read(handle, _NUMBER.size))[0]
    return number


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
