"""Keeps a store alive for as long as this process serves: one connection, pinged, and what follows from its loss.

A store that dies is replaced without waiting for a request, so an idle site is backed up too. One that hangs
(SIGSTOP, say) is killed through a pidfd: the kernel then frees its locks, and the next one takes over.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time

from eventvault.errors import EventVaultError
from eventvault.settings import Settings
from eventvault.store.process.spawn import Spawner, kill_peer, reap
from eventvault.store.rpc import wire
from eventvault.store.rpc.client import StoreClient

log = logging.getLogger("BackupManager")

PING_SECONDS = 0.5
PATIENCE_SECONDS = 5.0
"""A store that does not answer a ping for this long is taken to hang."""
ORPHAN_SECONDS = 4.0
"""How long a worker whose master is gone finishes its requests."""

_lifelines: list[Lifeline] = []


class Lifeline:
    """A daemon thread that holds the connection. `start` is idempotent, after a fork it starts anew."""

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
                self._hold()
            except (OSError, EventVaultError) as error:
                log.debug("the connection to the store was lost: %s", error)
                self._stopped.wait(0.02)

    def _hold(self) -> None:
        """Ping until the connection is lost (OSError) or `stop`."""
        connection = self.client.connect(time.monotonic() + 2 * PATIENCE_SECONDS)
        with contextlib.closing(connection):
            connection.settimeout(PATIENCE_SECONDS)
            while not self._stopped.is_set():
                try:
                    wire.send(connection, wire.request("ping"))
                    wire.receive(connection)
                except TimeoutError:
                    pid = kill_peer(connection)
                    log.warning("the store process %s did not answer for %s s and was killed", pid,
                                PATIENCE_SECONDS)  # fmt: skip
                    raise
                reap()
                self._stopped.wait(PING_SECONDS)


def register(client: StoreClient) -> Lifeline:
    """The lifeline of a client; it is started again in children that this process forks."""
    lifeline = Lifeline(client)
    _lifelines.append(lifeline)
    return lifeline


def start_all(*, parent: int | None = None) -> None:
    """Start every lifeline of this process. parent: the process with which this one ends, gone already or not."""
    for lifeline in _lifelines:
        lifeline.start()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), name="parent-watch", daemon=True).start()


def lifelines() -> list[Lifeline]:
    """Those of this process."""
    return list(_lifelines)


def forget(lifeline: Lifeline) -> None:
    lifeline.stop()
    with contextlib.suppress(ValueError):
        _lifelines.remove(lifeline)


def end_store(settings: Settings, service: str) -> None:
    """Have the store of this service start end at once, one that hangs too; used when gunicorn's master ends."""
    Spawner(settings, [], service=service).end(service, kill_hung=True)


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    log.error("the master process %s is gone: this worker finishes its requests and ends", parent)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ORPHAN_SECONDS)
    os._exit(1)
