"""Keeps a store running while this process serves: it pings the store over one connection, and replaces a lost store.

A store that dies is replaced without waiting for a request, so that an idle site is backed up too. A store that hangs
is killed through a pidfd: the kernel frees its locks, and the next store takes over.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time

from eventvault.errors import EventVaultError
from eventvault.exit_statuses import FAILED
from eventvault.rpc import frames
from eventvault.settings import Settings
from eventvault.store.process.spawn import Spawner, await_answer, kill_peer, reap
from eventvault.store.rpc import wire
from eventvault.store.rpc.client import StoreClient

log = logging.getLogger("BackupManager")

PING_SECONDS = 0.5
PATIENCE_SECONDS = 5.0
"""A store that does not answer a ping for this long hangs."""
ORPHAN_SECONDS = 4.0
"""How long a worker without a master has to finish its requests."""

registered: list[Lifeline] = []
"""The lifelines of this process."""


class Lifeline:
    """A daemon thread with the connection. `start` is idempotent; after a fork it starts a new thread."""

    def __init__(self, client: StoreClient) -> None:
        self.client = client
        self._stopped = threading.Event()
        self._process = 0
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if self._process == os.getpid():
            return
        self._process = os.getpid()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lifeline", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread is not None and self._process == os.getpid():
            self._thread.join(PATIENCE_SECONDS + 1)

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._ping_until_lost()
            except (OSError, EventVaultError) as error:
                log.debug("lost the connection to the store: %s", error)
                self._stopped.wait(0.02)

    def _replace_store_of_command(self) -> None:
        """End a store that a command started, if it was faster than this service: it lacks Kafka and the schedule."""
        hello = self.client.spawner.hello()
        if hello is not None and hello.mode == "command":
            deadline = time.monotonic() + 2 * PATIENCE_SECONDS
            self.client.spawner.ensure_own(lambda store: store.mode != "command", deadline)

    def _ping_until_lost(self) -> None:
        """Ping the store until `stop`. Raises OSError if the connection is lost."""
        self._replace_store_of_command()
        connection = self.client.connect(time.monotonic() + 2 * PATIENCE_SECONDS)
        with contextlib.closing(connection):
            connection.settimeout(PATIENCE_SECONDS)
            while not self._stopped.is_set():
                try:
                    frames.send(connection, wire.request("ping"))
                    await_answer(connection, PATIENCE_SECONDS)
                    frames.receive(connection)
                except TimeoutError:
                    pid = kill_peer(connection)
                    log.warning("store process %s did not answer for %s s and was killed", pid,
                                PATIENCE_SECONDS)  # fmt: skip
                    raise
                reap()
                self._stopped.wait(PING_SECONDS)


def register(client: StoreClient) -> Lifeline:
    """Make the lifeline of a client. `start_all` starts it, in this process or in a forked one."""
    lifeline = Lifeline(client)
    registered.append(lifeline)
    return lifeline


def start_all(*, parent: int | None = None) -> None:
    """Start every lifeline of this process. parent: this process ends with it; it may have ended already."""
    for lifeline in registered:
        lifeline.start()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), name="parent-watch", daemon=True).start()


def end_store(settings: Settings, service: str) -> None:
    """End the store of this service start; kill it if it hangs. Called when gunicorn's master ends."""
    Spawner(settings, [], service=service).end(service, kill_hung=True)


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    log.error("master process %s has ended: this worker finishes its requests and ends", parent)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ORPHAN_SECONDS)
    os._exit(FAILED)
