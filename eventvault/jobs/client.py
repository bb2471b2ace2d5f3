"""The client of the dispatcher: implements the port `Jobs` over the dispatcher's socket.

The store starts the dispatcher. If the dispatcher restarts, a request waits for it, and is sent again. Safe for many
threads; connections are not shared across a fork.
"""

from __future__ import annotations

import functools
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from eventvault import data_folders
from eventvault.damage import as_answer
from eventvault.errors import EventVaultError, JobsUnavailable, OutcomeUnknown
from eventvault.jobs import wire
from eventvault.jobs.port import Jobs, JobView
from eventvault.rpc import frames, sockets
from eventvault.rpc.methods import Method
from eventvault.rpc.pool import ConnectionPool
from eventvault.system_errors import is_busy

PATIENCE_SECONDS = 15.0
"""How long a request waits for its answer; that includes a restart of the dispatcher."""
_RETRY_SECONDS = 0.02


class JobsClient(Jobs):
    """The dispatcher of STORAGE_DIR. The other methods of the port are attached below.

    `status` raises JobsUnavailable after its deadline, because health must not wait.
    """

    def __init__(self, storage_dir: Path, *, patience: float = PATIENCE_SECONDS) -> None:
        self._storage_dir = storage_dir
        self._patience = patience
        self._pool = ConnectionPool()

    @classmethod
    def over(cls, storage_dir: Path, *, patience: float = PATIENCE_SECONDS) -> Self:
        """As the constructor. The type checker believes that the class is abstract, so it refuses the constructor."""
        return cls(storage_dir, patience=patience)

    def job(self, job_id: str) -> JobView:
        sent: wire.SentView = self._call(wire.METHODS["job"], (job_id,))
        return JobView(sent.job, sent.payload, sent.result)

    def close(self) -> None:
        self._pool.close()

    def _call(self, method: Method, arguments: tuple[Any, ...]) -> Any:
        """Send the request until a dispatcher answers it."""
        patience = self._patience if method.marks.deadline is None else method.marks.deadline
        deadline = time.monotonic() + patience
        frame = wire.request(method.name, *arguments)
        is_sent = False
        while True:
            connection = self._pool.take() or self._connect(deadline, is_sent=is_sent)
            try:
                frames.set_deadline(connection, max(0.01, deadline - time.monotonic()))
                frames.send(connection, frame)
                is_sent = method.marks.changes
                answer = frames.receive(connection)
            except OSError:
                connection.close()
                if time.monotonic() > deadline:
                    raise self._no_answer(is_sent=is_sent) from None
                continue
            self._pool.put_back(connection)
            return wire.read_reply(method.name, answer)

    def _connect(self, deadline: float, *, is_sent: bool) -> socket.socket:
        """Return a new connection. Raises JobsUnavailable, or OutcomeUnknown if `is_sent`, at the deadline."""
        while True:
            try:
                seconds = max(0.01, deadline - time.monotonic())
                return sockets.connect(self._storage_dir, seconds, data_folders.JOBS_SOCKET)
            except OSError as error:
                if time.monotonic() > deadline:
                    if is_busy(error):
                        raise as_answer("connecting to the dispatcher of jobs", error) from error
                    raise self._no_answer(is_sent=is_sent) from None
            time.sleep(_RETRY_SECONDS)

    def _no_answer(self, *, is_sent: bool) -> EventVaultError:
        if is_sent:
            return OutcomeUnknown(
                "the dispatcher of jobs ended before it answered: the request may have taken effect or not",
                hint="check that before you send it again; a job that is sent with its id is accepted only once",
            )
        return JobsUnavailable(
            f"no dispatcher of jobs answers at {self._storage_dir / data_folders.JOBS_SOCKET}",
            hint="the store starts it, unless JOBS_ENABLED is false; health and the log say why it ends",
        )


def _remote(method: Method) -> Callable[..., Any]:
    @functools.wraps(method.function)
    def call(self: JobsClient, *arguments: Any, **named: Any) -> Any:
        return self._call(method, method.ordered(arguments, named))

    return call


for _name, _method in wire.METHODS.items():
    if _name not in vars(JobsClient):
        setattr(JobsClient, _name, _remote(_method))
