"""Reaches the store over its socket, through the ports that the store implements.

A request whose store is lost waits for the next store and is sent again. A call that changes something carries an
operation id, so that it takes effect once. Safe for many threads; connections are not shared across a fork.
"""

from __future__ import annotations

import contextlib
import functools
import socket
import time
from collections.abc import Callable
from typing import Any, Self

from eventvault import errors
from eventvault.damage import as_answer
from eventvault.database.nonces import Nonces
from eventvault.operations.caller import current_caller, take_operation_id
from eventvault.progress import LONGEST_SECONDS
from eventvault.rpc import frames
from eventvault.rpc.methods import Method
from eventvault.rpc.pool import ConnectionPool
from eventvault.store.ports import methods
from eventvault.store.ports.event_log import Lease
from eventvault.store.ports.store import Store
from eventvault.store.process.spawn import Spawner
from eventvault.store.rpc import wire
from eventvault.system_errors import is_busy

PATIENCE_SECONDS = 15.0
"""How long a request waits for a store, a take-over included, before it is answered with 503."""
_RETRY_SECONDS = 0.02
_AWAY_HINT = "try again in a moment; the service's log says why none answers"


class StoreClient(Store):
    """The store over the socket that `spawner` knows; the methods of the ports are attached below.

    `status` raises StoreUnavailable after its deadline: health must not wait.
    """

    def __init__(self, spawner: Spawner, *, patience: float = PATIENCE_SECONDS) -> None:
        self.spawner = spawner
        self._patience = patience
        self._pool = ConnectionPool()
        self._operation_ids = Nonces()

    @classmethod
    def over(cls, spawner: Spawner) -> Self:
        """Do what the constructor does. The type checker takes the class for abstract, so it refuses that."""
        return cls(spawner)

    def lease_generation(self, generation: str) -> Lease:
        return _Lease(self, generation)

    def ensure(self) -> None:
        """Return once a store answers. Raises StoreUnavailable if none can be started."""
        self._pool.put_back(self.connect(time.monotonic() + self._patience))

    def close(self) -> None:
        self._pool.close()

    def _call(self, method: Method, arguments: tuple[Any, ...]) -> Any:
        """Send the request until a store answers it. Without a deadline, an answer may take any time."""
        patience = method.marks.deadline
        if method.marks.changes:
            arguments = (*arguments, bytes.fromhex(take_operation_id()) or self._operation_ids.next())
        if method.marks.has_caller:
            arguments = (*arguments, current_caller())
        frame = wire.request(method.name, *arguments)
        deadline = time.monotonic() + (self._patience if patience is None else min(patience, self._patience))
        renewed = patience is not None
        sent = False
        while True:
            connection = self._pooled(deadline, sent=sent and method.marks.changes)
            try:
                if patience is not None:
                    frames.set_deadline(connection, patience)
                frames.send(connection, frame)
                sent = True
                answer = self._receive(connection, patience)
                if patience is not None:
                    frames.set_deadline(connection, frames.EXCHANGE_SECONDS)
            except OSError:
                connection.close()
                if time.monotonic() > deadline:
                    if renewed:
                        raise self._no_answer(sent=sent and method.marks.changes) from None
                    # The store was lost during long work: the next store gets as much time, once.
                    renewed, deadline = True, time.monotonic() + self._patience
                continue
            self._pool.put_back(connection)
            return wire.read_reply(method.name, answer)

    def _receive(self, connection: socket.socket, patience: float | None) -> bytes:
        """Return the answer to a request. Raises OSError if the store is lost, or does not answer in time.

        patience: None: the answer may take any time, as long as the store answers other requests.
        """
        longest = time.monotonic() + LONGEST_SECONDS
        while True:
            try:
                return frames.receive(connection)
            except frames.NothingYet:
                if patience is not None or time.monotonic() > longest or self.spawner.hello() is None:
                    raise

    def _pooled(self, deadline: float, *, sent: bool) -> socket.socket:
        """Return an open connection. sent: a change was sent before, and nobody knows whether it took effect."""
        pooled = self._pool.take()
        if pooled is not None:
            return pooled
        try:
            return self.connect(deadline)
        except errors.StoreUnavailable:
            raise self._no_answer(sent=sent) from None

    def connect(self, deadline: float) -> socket.socket:
        """Connect to the store, and start one if there is none. Raises StoreUnavailable at `deadline` (monotonic)."""
        while True:
            try:
                connection = self.spawner.connect(5.0)
                frames.set_deadline(connection, frames.EXCHANGE_SECONDS)
                return connection
            except OSError as error:
                failure = error
            try:
                if not is_busy(failure):  # else this process lacks descriptors, and the store may be fine
                    self.spawner.ensure_started(deadline)
            except OSError as error:
                failure = error
            if time.monotonic() > deadline:
                if is_busy(failure):
                    raise as_answer("connecting to the store", failure) from failure
                raise self._unavailable() from None
            time.sleep(_RETRY_SECONDS)

    def _no_answer(self, *, sent: bool) -> errors.EventVaultError:
        if not sent:
            return self._unavailable()
        return errors.OutcomeUnknown(
            "the store ended before it answered, and no other one answers: the request may have taken effect or not",
            hint="see whether it did before you send it again; events are stored once if they are sent with the same "
            "ids",
        )

    def _unavailable(self) -> errors.StoreUnavailable:
        reason = self.spawner.failure
        message = f"no store process answers: {reason}" if reason else "no store process answers"
        return errors.StoreUnavailable(
            message, hint="it is started again automatically; the service's log says more" if reason else _AWAY_HINT
        )


def _remote(method: Method) -> Callable[..., Any]:
    @functools.wraps(method.function)
    def call(self: StoreClient, *arguments: Any, **named: Any) -> Any:
        return self._call(method, method.ordered(arguments, named))

    return call


for _method in methods.ALL.values():
    if not _method.marks.of_connection:
        setattr(StoreClient, _method.name, _remote(_method))


class _Lease:
    """A separate connection for the lease of a generation; `renew` replaces it once another store has taken over."""

    def __init__(self, client: StoreClient, generation: str) -> None:
        self._client = client
        self._generation = generation
        self._connection: socket.socket | None = None

    def __enter__(self) -> _Lease:
        self.renew()
        return self

    def renew(self) -> None:
        """Ensure that the current store knows the lease; cheap if it does."""
        if self._connection is not None and _is_open(self._connection):
            return
        if self._connection is not None:
            self._connection.close()
        self._connection = self._client.connect(time.monotonic() + PATIENCE_SECONDS)
        frames.set_deadline(self._connection, PATIENCE_SECONDS)
        with contextlib.suppress(OSError, errors.TooBusy):
            frames.send(self._connection, wire.request("lease_generation", self._generation))
            wire.read_reply("lease_generation", frames.receive(self._connection))

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()


def _is_open(connection: socket.socket) -> bool:
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False
