"""Reaches the dispatcher over its socket, through the port that it implements.

The store starts the dispatcher. A request waits for one that is started again, and is then sent again. Safe for many
threads; connections are not shared across a fork.
"""

from __future__ import annotations

import functools
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import msgspec
import uuid_utils

from eventvault import data_folders
from eventvault.damage import as_answer
from eventvault.errors import EventVaultError, JobsUnavailable, OutcomeUnknown
from eventvault.jobs import wire
from eventvault.jobs.job import JobRequest
from eventvault.jobs.port import Jobs, JobView, SubmitResult
from eventvault.rpc import frames, sockets
from eventvault.rpc.methods import Method
from eventvault.rpc.pool import ConnectionPool
from eventvault.system_errors import is_busy

PATIENCE_SECONDS = 15.0
"""How long a request waits for its answer, a dispatcher that is started again included."""
_RETRY_SECONDS = 0.02


class JobsClient(Jobs):
    """The dispatcher of STORAGE_DIR; the other methods of the port are attached below.

    `status` raises JobsUnavailable after its deadline: health must not wait.
    """

    def __init__(self, storage_dir: Path, *, patience: float = PATIENCE_SECONDS) -> None:
        self._storage_dir = storage_dir
        self._patience = patience
        self._pool = ConnectionPool()

    @classmethod
    def over(cls, storage_dir: Path, *, patience: float = PATIENCE_SECONDS) -> Self:
        """As the constructor, which the type checker takes for an abstract class's."""
        return cls(storage_dir, patience=patience)

    def submit(self, requests: list[JobRequest], by: str, scopes: list[str]) -> list[SubmitResult]:
        named = [each if each.id is not None else _named(each) for each in requests]
        results, was_repeated = self._call(wire.METHODS["submit"], (named, by, scopes))
        if not was_repeated:
            return results  # type: ignore[no-any-return]
        own = {each.id for each, asked in zip(named, requests, strict=True) if asked.id is None}
        # They were accepted when the request was sent before.
        return [msgspec.structs.replace(each, duplicate=False) if each.id in own else each for each in results]

    def job(self, job_id: str) -> JobView:
        sent: wire.SentView = self._call(wire.METHODS["job"], (job_id,))[0]
        return JobView(sent.job, sent.payload, sent.result)

    def close(self) -> None:
        self._pool.close()

    def _call(self, method: Method, arguments: tuple[Any, ...]) -> tuple[Any, bool]:
        """Send the request until a dispatcher answers it. Returns also whether it was sent more than once."""
        patience = self._patience if method.marks.deadline is None else method.marks.deadline
        deadline = time.monotonic() + patience
        frame = wire.request(method.name, *arguments)
        sent = 0
        while True:
            connection = self._pool.take() or self._connect(deadline, is_sent=sent > 0 and method.marks.changes)
            try:
                frames.set_deadline(connection, max(0.01, deadline - time.monotonic()))
                frames.send(connection, frame)
                sent += 1
                answer = frames.receive(connection)
            except OSError:
                connection.close()
                if time.monotonic() > deadline:
                    raise self._no_answer(is_sent=sent > 0 and method.marks.changes) from None
                continue
            self._pool.put_back(connection)
            return wire.read_reply(method.name, answer), sent > 1

    def _connect(self, deadline: float, *, is_sent: bool) -> socket.socket:
        """Raises JobsUnavailable if nobody listens until the deadline, or OutcomeUnknown if `is_sent`."""
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
                hint="see whether it did before you send it again; a job that is sent with its id is accepted once",
            )
        return JobsUnavailable(
            f"no dispatcher of jobs answers at {self._storage_dir / data_folders.JOBS_SOCKET}",
            hint="the store starts it by itself, unless JOBS_ENABLED is false; the service's log says more",
        )


def _named(request: JobRequest) -> JobRequest:
    return msgspec.structs.replace(request, id=str(uuid_utils.uuid7()))


def _remote(method: Method) -> Callable[..., Any]:
    @functools.wraps(method.function)
    def call(self: JobsClient, *arguments: Any, **named: Any) -> Any:
        return self._call(method, method.ordered(arguments, named))[0]

    return call


for _name, _method in wire.METHODS.items():
    if _name not in vars(JobsClient):
        setattr(JobsClient, _name, _remote(_method))
