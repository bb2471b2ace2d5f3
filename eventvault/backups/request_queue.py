"""Requests for a backup: one backup is made at a time, and requests with the same label share the next one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress

from eventvault.backups.entry import Created
from eventvault.operations.operation import Operation, working_on
from eventvault.progress import Turn, wait_for


class BackupRequest:
    """One backup to make. `result` is for every caller that shares it.

    operation: of the backup; each caller has one of its own, which follows it.
    """

    def __init__(self, label: str | None) -> None:
        self.label = label
        self.result: Future[Created] = Future()
        self.callers: list[Operation] = []
        self.operation = Operation(kind="create", followers=self.callers)

    def cancel_if_unwanted(self) -> None:
        """End the backup once all who asked for it have cancelled it."""
        if all(caller.is_cancelled for caller in self.callers):
            self.operation.cancel()


class RequestQueue:
    """Makes backups one at a time. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[BackupRequest] = []
        self._running = Turn("running backup")

    def run(self, label: str | None, caller: Operation, create: Callable[[BackupRequest], Created]) -> Created:
        """Wait for the turn of this request and return what `create` returns, or raise what it raises.

        If one with the same label waits, this one shares its backup. `create` calls `close` before its checkpoint.
        """
        request, is_new = self._join(label, caller)
        with caller.on_cancel(request.cancel_if_unwanted):
            if is_new:
                self._run(request, create)
            try:
                return self._result_of(request, caller)
            finally:
                caller.check_cancelled()  # even if other callers want the backup

    def close(self, request: BackupRequest) -> None:
        """Let no further request share this backup: its checkpoint may lack what was acknowledged before that."""
        with self._lock:
            if request in self._waiting:
                self._waiting.remove(request)

    def _join(self, label: str | None, caller: Operation) -> tuple[BackupRequest, bool]:
        with self._lock:
            waiting = next((request for request in self._waiting if request.label == label), None)
            request = waiting or BackupRequest(label)
            request.callers.append(caller)
            caller.queue()
            if waiting is None:
                self._waiting.append(request)
            return request, waiting is None

    def _run(self, request: BackupRequest, create: Callable[[BackupRequest], Created]) -> None:
        try:
            with self._running.held(check=request.operation.check_cancelled), working_on(request.operation):
                request.result.set_result(create(request))
        except BaseException as error:  # noqa: BLE001 - every caller that waits gets the error, whatever it is
            self.close(request)
            request.result.set_exception(error)

    def _result_of(self, request: BackupRequest, caller: Operation) -> Created:
        def is_over(seconds: float) -> bool:
            if not request.result.done():
                caller.check_cancelled()
            with suppress(TimeoutError):
                request.result.exception(seconds)
            return request.result.done()

        wait_for(is_over, "the backup that this request shares", lambda: self._running.holder)
        return request.result.result(0)
