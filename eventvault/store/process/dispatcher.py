"""Keeps a dispatcher of jobs running while this store runs: starts one, adopts one, and replaces one that hangs.

The dispatcher is a separate process, which outlives a store that dies: the next store finds it at its socket. It ends
with the service, and also if no store comes.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Sequence

import msgspec

from eventvault import __version__, data_folders
from eventvault.errors import EventVaultError
from eventvault.jobs import wire
from eventvault.progress import running
from eventvault.rpc import frames, sockets
from eventvault.settings import Settings
from eventvault.store.process.detached import FAILURE_VARIABLE, own_errors, start_detached
from eventvault.store.process.spawn import Starts, ask_to_end, await_answer, end_peer, kill_peer
from eventvault.system_errors import is_busy
from eventvault.unforeseen import Unforeseen

log = logging.getLogger("jobs")

CHECK_SECONDS = 0.5
_LOST_SECONDS = 0.02
ANSWER_SECONDS = 5.0
"""A dispatcher that does not answer for this long hangs."""
TURN_SECONDS = 60.0
"""A dispatcher hangs if its loop makes no turn for this long, even if it answers, and if it does not listen."""
READY_SECONDS = 10.0
_SOCKET = data_folders.JOBS_SOCKET
END_SECONDS = 10.0
"""How long a dispatcher of an earlier start has to end, before it is killed."""


class DispatcherKeeper:
    """command: starts a dispatcher. service: the service start that it belongs to."""

    def __init__(self, settings: Settings, command: Sequence[str], service: str) -> None:
        self._starts = Starts("the dispatcher of jobs", lambda: sockets.listens(settings.storage_dir, _SOCKET))
        self._settings = settings
        self._command = list(command)
        self._service = service
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dispatcher keeper", daemon=True)
        self._connection: socket.socket | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._reached = 0.0
        """When the newest dispatcher was reached, or started (monotonic)."""
        self._distrusts = False
        """Whether a bad sector of a table, which LevelDB maps into memory, ended a dispatcher."""
        self._unforeseen = Unforeseen("checking the dispatcher of jobs", log)

    @property
    def failure(self) -> str:
        """Why the newest dispatcher that was started here ended before it listened."""
        return self._starts.failure

    def start(self) -> None:
        self._thread.start()

    def stop(self, *, end_dispatcher: bool) -> None:
        """Start no further dispatcher. end_dispatcher: the service ends, and the dispatcher with it."""
        self._stopping.set()
        self._thread.join(ANSWER_SECONDS + 1)
        if end_dispatcher:
            try:
                with contextlib.closing(self._connect()) as connection:
                    connection.settimeout(ANSWER_SECONDS)
                    ask_to_end(connection, wire, self._service)
            except OSError:
                self._kill_child()

    def _run(self) -> None:
        with running("dispatcher keeper", "looks after the dispatcher of jobs") as activity:
            while not self._stopping.is_set():
                activity.step()
                with self._unforeseen.survived():
                    try:
                        self._check()
                    except (OSError, EventVaultError, msgspec.MsgspecError) as error:
                        log.debug("lost the connection to the dispatcher: %s", error)
                        self._drop()
                is_lost = self._connection is None and not self._unforeseen.newest
                self._stopping.wait(_LOST_SECONDS if is_lost else CHECK_SECONDS)
        self._drop()

    def _check(self) -> None:
        """Check whether the dispatcher works. Raises OSError if it is lost."""
        if self._child is not None and (status := self._child.poll()) is not None:
            self._distrusts |= status == -signal.SIGBUS
            self._child = None
        if self._connection is None:
            try:
                self._connection = self._connect()
            except OSError as error:
                if is_busy(error):  # this process has no descriptor for another connection
                    self._reached = time.monotonic()
                self._start()
                return
        self._reached = time.monotonic()
        hello = self._say_hello(self._connection)
        if hello is None or hello.idle > TURN_SECONDS:
            log.error("the dispatcher of jobs, process %s, hangs and is killed", kill_peer(self._connection))
            self._drop()
        elif not self._is_own(hello):
            log.info("ending dispatcher process %s, of an earlier start or another version", hello.pid)
            self._connection.settimeout(ANSWER_SECONDS)
            end_peer(self._connection, wire, "dispatcher", END_SECONDS)
            self._drop()

    def _is_own(self, hello: wire.DispatcherHello) -> bool:
        return (hello.service, hello.version, hello.protocol) == (self._service, __version__, wire.PROTOCOL)

    def _connect(self) -> socket.socket:
        return sockets.connect(self._settings.storage_dir, 1.0, _SOCKET)

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _say_hello(self, connection: socket.socket) -> wire.DispatcherHello | None:
        """Return who the dispatcher is; None if it does not answer."""
        connection.settimeout(ANSWER_SECONDS)
        try:
            frames.send(connection, wire.request("hello"))
            await_answer(connection, ANSWER_SECONDS)
            return wire.read_reply("hello", frames.receive(connection))  # type: ignore[no-any-return]
        except TimeoutError:
            return None

    def _start(self) -> None:
        """Start a dispatcher and wait until it listens; kill one that was started and still does not listen."""
        if self._child is None and not self._starts.due_in:
            self._reached = time.monotonic()
            self._starts.start(self._begin, self._reached + READY_SECONDS, self._stopping.is_set)
        elif self._child is not None and time.monotonic() - self._reached > TURN_SECONDS:
            log.error("the dispatcher of jobs, process %s, has not listened for %.0f s and is killed", self._child.pid,
                      TURN_SECONDS)  # fmt: skip
            self._kill_child()

    def _kill_child(self) -> None:
        """Kill the dispatcher that was started here, if it runs. It loses nothing."""
        if self._child is not None:
            self._child.kill()

    def _begin(self, failure: int) -> subprocess.Popen[bytes]:
        command = [*self._command, "--service", self._service]
        if self._distrusts:
            command.append("--distrust-tables")
        variables = {FAILURE_VARIABLE: str(failure)}
        self._child = start_detached(self._settings, command, variables, own_errors(), pass_fds=[failure])
        return self._child
