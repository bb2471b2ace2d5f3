"""Requests for a backup: one backup is made at a time, and requests with the same label share the next one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future

from eventvault.backups.entry import Created
from eventvault.progress import Turn, result_of

NoteName = Callable[[str], None]


class BackupRequest:
    """One backup to make. `result` is for every caller that shares it, `note_name` what each wants to know first."""

    def __init__(self, label: str | None) -> None:
        self.label = label
        self.result: Future[Created] = Future()
        self.note_name: list[NoteName] = []


class RequestQueue:
    """Makes backups one at a time. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[BackupRequest] = []
        self._running = Turn("running backup")

    def run(self, label: str | None, note_name: NoteName, create: Callable[[BackupRequest], Created]) -> Created:
        """Wait for the turn of this request and return what `create` returns, or raise what it raises.

        A request with the label of one that waits shares its backup. `create` calls `close` before its checkpoint.
        """
        request, is_new = self._join(label, note_name)
        if is_new:
            self._run(request, create)
        return result_of(request.result, "the backup that this request shares", lambda: self._running.holder)

    def close(self, request: BackupRequest) -> None:
        """Let nobody share this backup any more: its checkpoint would not hold what was acknowledged before."""
        with self._lock:
            if request in self._waiting:
                self._waiting.remove(request)

    def _join(self, label: str | None, note_name: NoteName) -> tuple[BackupRequest, bool]:
        with self._lock:
            waiting = next((request for request in self._waiting if request.label == label), None)
            request = waiting or BackupRequest(label)
            request.note_name.append(note_name)
            if waiting is None:
                self._waiting.append(request)
            return request, waiting is None

    def _run(self, request: BackupRequest, create: Callable[[BackupRequest], Created]) -> None:
        try:
            with self._running.held():
                request.result.set_result(create(request))
        except BaseException as error:  # noqa: BLE001 - every caller that waits gets the error, whatever it is
            self.close(request)
            request.result.set_exception(error)
