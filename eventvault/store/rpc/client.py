"""Reaches the store over its socket, through the same interface that the store implements.

A request that meets a store that is gone waits for the next one and is sent again: appends carry a nonce, long
operations a name, so that each lands once. Safe for many threads; connections are not shared across a fork.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any

from eventvault import errors
from eventvault.backups.entry import BackupEntry, Created
from eventvault.database.nonces import Nonces
from eventvault.database.values import AppendResult, Page, ScanQuery
from eventvault.events.event import EventDraft
from eventvault.past.values import CopyResult, DiffPage, DiffQuery, PastView
from eventvault.restore.values import KeptEntry, Moment, Restored
from eventvault.store.interface import GenerationHold
from eventvault.store.process.spawn import Spawner
from eventvault.store.rpc import wire

PATIENCE_SECONDS = 15.0
"""How long a request waits for a store, one that takes over included, before it is answered with 503."""
_POOL = 32
_RETRY_SECONDS = 0.02


class StoreClient:
    """`eventvault.store.interface.Store` over the socket that `spawner` knows."""

    def __init__(self, spawner: Spawner, *, patience: float = PATIENCE_SECONDS) -> None:
        self._spawner = spawner
        self._patience = patience
        self._pool: list[socket.socket] = []
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._nonces = Nonces()

    @property
    def spawner(self) -> Spawner:
        return self._spawner

    def append(self, drafts: Sequence[EventDraft]) -> AppendResult:
        result: AppendResult = self._call("append", drafts, self._nonces.next())
        return result

    def get(self, event_id: str, source: str | None = None, recorded_to: int | None = None) -> bytes:
        value: bytes = self._call("get", event_id, source, recorded_to)
        return value

    def scan(self, query: ScanQuery) -> Page:
        page: Page = self._call("scan", query)
        return page

    def resolve_moment(self, moment: Moment) -> PastView:
        view: PastView = self._call("resolve_moment", moment)
        return view

    def last_common(self, one: str, other: str) -> int | None:
        sequence: int | None = self._call("last_common", one, other)
        return sequence

    def diff(self, query: DiffQuery) -> DiffPage:
        page: DiffPage = self._call("diff", query)
        return page

    def copy_events_to_present(self, query: ScanQuery) -> CopyResult:
        taken: CopyResult = self._call("copy_events_to_present", query)
        return taken

    def status(self) -> dict[str, Any]:
        """As the interface says; raises StoreUnavailable after a second already: health must not wait."""
        status: dict[str, Any] = self._call("status", patience=1.0)
        return status

    def create_backup(self, label: str | None = None) -> Created:
        created: Created = self._call("create_backup", label)
        return created

    def list_backups(self) -> list[BackupEntry]:
        entries: list[BackupEntry] = self._call("list_backups")
        return entries

    def backup_manifest(self, name: str) -> dict[str, Any]:
        manifest: dict[str, Any] = self._call("backup_manifest", name)
        return manifest

    def backup_path(self, name: str) -> str:
        path: str = self._call("backup_path", name)
        return path

    def adopt_upload(self, temporary: str, name: str) -> BackupEntry:
        entry: BackupEntry = self._call("adopt_upload", temporary, name)
        return entry

    def verify_backup(self, name: str) -> BackupEntry:
        entry: BackupEntry = self._call("verify_backup", name)
        return entry

    def delete_backup(self, name: str, *, force: bool = False) -> None:
        self._call("delete_backup", name, force)

    def pin_backup(self, name: str, *, pinned: bool) -> BackupEntry:
        entry: BackupEntry = self._call("pin_backup", name, pinned)
        return entry

    def restore(self, name: str, *, staged: bool = False) -> Restored:
        restored: Restored = self._call("restore", name, staged, secrets.token_hex(8))
        return restored

    def restore_moment(self, moment: Moment, *, staged: bool = False) -> Restored:
        restored: Restored = self._call("restore_moment", moment, staged, secrets.token_hex(8))
        return restored

    def plan_restore(self, asked: Moment | str) -> dict[str, Any]:
        plan: dict[str, Any] = self._call("plan_restore", asked)
        return plan

    def timeline(self) -> dict[str, Any]:
        timeline: dict[str, Any] = self._call("timeline")
        return timeline

    def undo(self, name: str | None = None) -> Restored:
        restored: Restored = self._call("undo", name, secrets.token_hex(8))
        return restored

    def accept_loss(self, partition: int) -> None:
        self._call("accept_loss", partition)

    def list_undo(self) -> list[KeptEntry]:
        entries: list[KeptEntry] = self._call("list_undo")
        return entries

    def hold_generation(self, generation: str) -> GenerationHold:
        """As long as the context lasts, that generation's events stay readable through `scan`."""
        return _Hold(self, generation)

    def ensure(self) -> None:
        """Return once there is a store. Raises StoreUnavailable where none can be started."""
        self._give(self.connect(time.monotonic() + self._patience))

    def close(self) -> None:
        with self._lock:
            pool, self._pool = self._pool, []
        for connection in pool:
            connection.close()

    def _call(self, method: str, *arguments: Any, patience: float | None = None) -> Any:
        """patience: seconds for everything; by default the answer may take as long as it takes."""
        frame = wire.request(method, *arguments)
        deadline = time.monotonic() + (self._patience if patience is None else patience)
        renewed = patience is not None
        while True:
            connection = self._take(deadline)
            try:
                answer = self._exchange(connection, frame, patience)
            except OSError:
                connection.close()
                if time.monotonic() > deadline:
                    if renewed:
                        raise _away() from None
                    # The store was lost in the middle of something long: the next one gets its chance, once.
                    renewed, deadline = True, time.monotonic() + self._patience
                continue
            self._give(connection)
            return wire.read_reply(method, answer)

    def _exchange(self, connection: socket.socket, frame: bytes, patience: float | None) -> bytes:
        if patience is not None:
            connection.settimeout(patience)
        wire.send(connection, frame)
        answer = wire.receive(connection)
        if patience is not None:
            connection.settimeout(None)
        return answer

    def _take(self, deadline: float) -> socket.socket:
        with self._lock:
            if self._process != os.getpid():
                self._pool, self._process = [], os.getpid()
            if self._pool:
                return self._pool.pop()
        return self.connect(deadline)

    def _give(self, connection: socket.socket) -> None:
        with self._lock:
            if len(self._pool) < _POOL:
                self._pool.append(connection)
                return
        connection.close()

    def connect(self, deadline: float) -> socket.socket:
        """A new connection, to a store that is started if there is none. Raises StoreUnavailable at `deadline`."""
        while True:
            try:
                connection = wire.connect(self._spawner.socket_path, timeout=5.0)
                connection.settimeout(None)
                return connection
            except OSError:
                self._spawner.ensure_started(deadline)
                if time.monotonic() > deadline:
                    raise _away() from None
                time.sleep(_RETRY_SECONDS)


class _Hold:
    """A connection of its own that names the generation; it is made anew when the store is another one."""

    def __init__(self, client: StoreClient, generation: str) -> None:
        self._client = client
        self._generation = generation
        self._connection: socket.socket | None = None

    def __enter__(self) -> _Hold:
        self.renew()
        return self

    def renew(self) -> None:
        """See to it that the present store knows of the hold; cheap when it does."""
        if self._connection is not None and _alive(self._connection):
            return
        if self._connection is not None:
            self._connection.close()
        self._connection = self._client.connect(time.monotonic() + PATIENCE_SECONDS)
        with contextlib.suppress(OSError):
            wire.send(self._connection, wire.request("hold_generation", self._generation))
            wire.read_reply("hold_generation", wire.receive(self._connection))

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()


def _alive(connection: socket.socket) -> bool:
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def _away() -> errors.StoreUnavailable:
    return errors.StoreUnavailable(
        "no store process answers", hint="try again in a moment; the service's log says why it does not start"
    )
