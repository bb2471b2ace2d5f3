"""Starts the store on demand: a process that finds no listener at the socket takes a lock and starts a store.

The store is a new program, not only a fork (LevelDB hangs after a fork). It has a session of its own. Its environment
has the settings and a list of variables; secret settings are handed over outside the environment. Its standard error is
that of this process, for a command only while the command runs.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import msgspec

from eventvault import data_folders
from eventvault.back_off import BackOff
from eventvault.errors import EventVaultError, StoreUnavailable
from eventvault.file_locks import holding
from eventvault.files import make_folder
from eventvault.rpc import frames, sockets
from eventvault.settings import Settings
from eventvault.store.process import MASTER_VARIABLE
from eventvault.store.process.detached import FAILURE_VARIABLE, MAX_FAILURE_BYTES, own_errors, start_detached
from eventvault.store.process.ownership import master_lives
from eventvault.store.process.relay import relayed_errors
from eventvault.store.rpc import wire

log = logging.getLogger("BackupManager")

SPAWNER_VARIABLE = "EVENTVAULT_SPAWNER"
"""Environment variable of a store: the id of the process that started it and waits for its answer."""
READY_SECONDS = 10.0
"""How long a new store has until it listens at the socket."""
ANSWER_SECONDS = 3.0
"""How long a store has to answer `hello` and `end`."""
END_SECONDS = 10.0
"""How long a store of an earlier start has to end, before it is killed."""
_SLICES = 10
_BACK_OFF_SECONDS = (0.1, 0.3, 1.0, 2.0, 5.0)
_POLL_SECONDS = 0.01
_SLICE_SECONDS = 0.1

_children: list[subprocess.Popen[bytes]] = []


class Wire(Protocol):
    """The protocol of the process at a socket."""

    def request(self, method: str, *arguments: Any) -> bytes: ...

    def read_reply(self, method: str, frame: bytes) -> Any: ...


class Starts:
    """Starts a process that has to listen. After a failure the next start waits a moment, each further one longer.

    what: names the process in the log. failure: why the newest process ended before it listened.
    """

    def __init__(self, what: str, listens: Callable[[], bool]) -> None:
        self.failure = ""
        self._what = what
        self._listens = listens
        self._back_off = BackOff(*_BACK_OFF_SECONDS)

    @property
    def due_in(self) -> float:
        """In how many seconds the next process may be started."""
        return self._back_off.remaining

    def start(
        self,
        begin: Callable[[int], subprocess.Popen[bytes]],
        deadline: float,
        is_over: Callable[[], bool] = lambda: False,
    ) -> None:
        """Start a process, and wait until it listens, has ended, or the deadline (monotonic) comes.

        begin: starts it, with the descriptor of a pipe: the process writes into it why it ends, and closes it once it
        listens. is_over: whether to wait no longer.
        """
        reading, writing = os.pipe()
        try:
            try:
                child = begin(writing)
            finally:
                os.close(writing)
            while time.monotonic() < deadline and child.poll() is None and not is_over():
                is_closed = _await_close(reading, _SLICE_SECONDS)
                if self._listens():
                    self._back_off.succeed()
                    self.failure = ""
                    return
                if is_closed:
                    time.sleep(_POLL_SECONDS)
            if child.poll() is not None:
                self.failure = _read_now(reading).decode(errors="replace")
                log.error("%s ended with status %s during its start", self._what, child.returncode)
                self._back_off.fail()
        finally:
            os.close(reading)


def _await_close(pipe: int, seconds: float) -> bool:
    """Wait until nobody has the other end of a pipe open. Returns False after so many seconds."""
    poll = select.poll()
    poll.register(pipe, 0)
    return bool(poll.poll(seconds * 1000))


def _read_now(pipe: int) -> bytes:
    os.set_blocking(pipe, False)
    with contextlib.suppress(BlockingIOError):
        return os.read(pipe, MAX_FAILURE_BYTES)
    return b""


class Spawner:
    """Starts a store for a STORAGE_DIR, and asks the running store who it is, or to end.

    command: what to run, such as `[sys.executable, "-m", "app.store"]`. service: the service start that the store
    belongs to. mode: `service`, or `command` for a store without Kafka, scheduler and auto-restore. on_started: called
    when a store that was started here listens.
    """

    def __init__(
        self,
        settings: Settings,
        command: Sequence[str],
        *,
        service: str,
        mode: str = "service",
        on_started: Callable[[], None] = lambda: None,
    ) -> None:
        self.settings = settings
        self.service = service
        self.mode = mode
        self._command = list(command)
        self._on_started = on_started
        self._starts = Starts("the store process", self.listens)
        self._spawn_lock = settings.storage_dir / data_folders.SPAWN_LOCK
        self._lock = threading.Lock()

    @property
    def failure(self) -> str:
        """Why the newest store that was started here ended before it listened."""
        return self._starts.failure

    def ensure_started(self, deadline: float) -> None:
        """Return once a store listens at the socket, or at `deadline` (monotonic) at the latest.

        One caller at a time, in all processes, starts a store; the others wait for it.
        """
        with self._starting(deadline) as may_start:
            if may_start and not self.listens():
                self._start(deadline)

    def ensure_own(self, is_own: Callable[[wire.StoreHello], bool], deadline: float) -> None:
        """Return once a store listens for which `is_own` is true, or at `deadline` (monotonic) at the latest.

        Any other store is ended first, and killed if it does not end. Nobody else can start a store meanwhile.
        """
        with self._starting(deadline) as may_start:
            while may_start and time.monotonic() < deadline:
                if not self.listens():
                    self._start(deadline)
                elif self._has_own(is_own):
                    return

    @contextlib.contextmanager
    def _starting(self, deadline: float) -> Iterator[bool]:
        """Keep all others from starting a store. Yields False at the deadline."""
        seconds = max(0.05, deadline - time.monotonic())
        if not self._lock.acquire(timeout=seconds):
            yield False
            return
        try:
            with contextlib.suppress(OSError):  # `owner.lock` alone decides who owns the database
                make_folder(self.settings.storage_dir)
            with holding(self._spawn_lock, seconds) as is_alone:
                yield is_alone
        finally:
            self._lock.release()

    def _has_own(self, is_own: Callable[[wire.StoreHello], bool]) -> bool:
        """Return whether `is_own` is true for the running store; any other store has ended when this returns."""
        try:
            with contextlib.closing(self.connect(ANSWER_SECONDS)) as connection:
                hello = _say_hello(connection)
                if hello is not None and is_own(hello):
                    return True
                log.info("ending store process %s, of an earlier start or another version", hello.pid if hello else "?")
                end_peer(connection, wire, "store", ANSWER_SECONDS if hello is None else END_SECONDS)
        except OSError:
            pass  # it has ended
        return False

    def connect(self, timeout: float) -> socket.socket:
        """Connect to the store. Raises OSError if nobody listens."""
        return sockets.connect(self.settings.storage_dir, timeout)

    def listens(self) -> bool:
        return sockets.listens(self.settings.storage_dir)

    def hello(self) -> wire.StoreHello | None:
        """Return who the running store is; None if there is none. Protocol 0 stands for an unreadable answer."""
        try:
            return self._ask("hello")  # type: ignore[no-any-return]
        except OSError:
            return None
        except (msgspec.MsgspecError, EventVaultError):
            return wire.StoreHello(0, "", 0, "", "service")

    def end(self, service: str, *, kill_hung: bool = False) -> bool:
        """Ask the running store to end if it belongs to `service`; any store if `service` is empty.

        kill_hung: kill a store that does not answer. Returns whether a store ends.
        """
        with contextlib.suppress(OSError, EventVaultError):
            return bool(self._ask("end", service, kill_hung=kill_hung))
        return False

    def wait_until_gone(self, seconds: float) -> bool:
        """Wait until no store listens. Returns False if one still does after `seconds`."""
        deadline = time.monotonic() + seconds
        while self.listens():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def _ask(self, method: str, *arguments: str, kill_hung: bool = False) -> Any:
        with contextlib.closing(self.connect(ANSWER_SECONDS)) as connection:
            try:
                frames.send(connection, wire.request(method, *arguments))
                return wire.read_reply(method, frames.receive(connection))
            except TimeoutError:
                if kill_hung:
                    log.warning("store process %s does not answer and is killed",
                                kill_peer(connection))  # fmt: skip
                raise

    def _start(self, deadline: float) -> None:
        """Start a store. Raises StoreUnavailable in a worker whose gunicorn was killed, because that has to end."""
        if self.mode == "service" and not master_lives(os.environ.get(MASTER_VARIABLE)):
            raise StoreUnavailable("the service that this process belongs to has ended", hint="start the service again")
        if self._starts.due_in:
            time.sleep(max(0.0, min(self._starts.due_in, deadline - time.monotonic())))
            if self._starts.due_in:
                return
        reap()
        self._starts.start(self._begin, min(deadline, time.monotonic() + READY_SECONDS))
        if self.listens():
            self._on_started()

    def _begin(self, failure: int) -> subprocess.Popen[bytes]:
        own = {SPAWNER_VARIABLE: str(os.getpid()), FAILURE_VARIABLE: str(failure)}
        arguments = ["--service", self.service, "--mode", self.mode]
        with self._errors() as errors:
            child = start_detached(
                self.settings, [*self._command, *arguments], {**self._log_format(), **own}, errors, pass_fds=[failure]
            )
        _children.append(child)
        return child

    def _errors(self) -> contextlib.AbstractContextManager[int | None]:
        """Return a context with the descriptor of the store's standard error."""
        return relayed_errors() if self.mode == "command" else contextlib.nullcontext(own_errors())

    def _log_format(self) -> dict[str, str]:
        """Let a store of a command log as text if the command's standard error is a terminal: the store's is a pipe."""
        if self.mode != "command" or self.settings.log_format or sys.__stderr__ is None or not sys.__stderr__.isatty():
            return {}
        return {"LOG_FORMAT": "text"}


def reap() -> None:
    """Collect the exit status of the ended stores that this process started."""
    for child in list(_children):  # others may append to it and reap meanwhile
        if child.poll() is not None:
            with contextlib.suppress(ValueError):
                _children.remove(child)


def ask_to_end(connection: socket.socket, wire: Wire, service: str = "") -> None:
    """Ask the process at the other end to end if it belongs to `service`, or in any case if that is empty."""
    with contextlib.suppress(OSError, msgspec.MsgspecError, EventVaultError):
        frames.send(connection, wire.request("end", service))
        wire.read_reply("end", frames.receive(connection))


def end_peer(connection: socket.socket, wire: Wire, what: str, seconds: float) -> None:
    """Ask the process at the other end to end, and wait; kill it after `seconds`. what: names it in the log."""
    ask_to_end(connection, wire)
    if not has_closed(connection, seconds):
        log.warning("%s process %s does not end and is killed", what, kill_peer(connection))
        has_closed(connection, ANSWER_SECONDS)


def _say_hello(connection: socket.socket) -> wire.StoreHello | None:
    """Return who the store is; None if it does not answer, or unreadably."""
    try:
        frames.send(connection, wire.request("hello"))
        return wire.read_reply("hello", frames.receive(connection))  # type: ignore[no-any-return]
    except (TimeoutError, msgspec.MsgspecError, EventVaultError):
        return None


def has_closed(connection: socket.socket, seconds: float) -> bool:
    """Wait until the process at the other end ends, which closes the connection. Returns False after `seconds`."""
    connection.settimeout(seconds)
    with contextlib.suppress(TimeoutError):
        try:
            return not connection.recv(1)
        except ConnectionError:
            return True
    return False


def await_answer(connection: socket.socket, seconds: float) -> None:
    """Wait for a byte. Raises TimeoutError after so many seconds in which this process ran.

    The wait has several slices, so a pause in which this process was stopped counts as one slice at most.
    """
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    for _ in range(_SLICES):
        if poll.poll(seconds / _SLICES * 1000):
            return
    raise TimeoutError


def kill_peer(connection: socket.socket) -> int | None:
    """Send SIGKILL to the process at the other end of an open connection. Returns its process id, or None.

    The pidfd is opened before the connection is checked, so that a process id that was reused is never signalled.
    """
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid = struct.unpack("3i", credentials)[0]
    try:
        handle = os.pidfd_open(pid)
    except (ProcessLookupError, PermissionError, ValueError):
        return None
    try:
        poll = select.poll()
        poll.register(connection, select.POLLHUP)
        if any(events & select.POLLHUP for _, events in poll.poll(0)):
            return None
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        return int(pid)
    except OSError:
        return None
    finally:
        os.close(handle)
