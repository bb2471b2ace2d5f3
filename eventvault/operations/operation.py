"""The handle of one operation: the work reports its progress to it, and learns from it that it was cancelled."""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec

from eventvault.errors import Cancelled, OperationCancelled, OperationDecided
from eventvault.operations.kinds import progress_of
from eventvault.operations.rate import Rate

Report = Callable[[dict[str, Any]], None]
"""Gets each report of progress: {step, bytesTotal} or {advance}."""


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far an operation is. fraction: of the whole, 0 to 1. The bytes are those of its current step."""

    fraction: float = 0.0
    step: str | None = None
    bytes_done: int = 0
    bytes_total: int | None = None
    bytes_per_second: float | None = None
    remaining_seconds: float | None = None


class Operation:
    """One call that changes something. Safe for many threads.

    id: 16 hex digits. notes: of an earlier attempt, whose store ended before it answered; empty at the first attempt.
    save: writes the notes durably; called when the work begins and with each note. followers: operations that share
    this one's work; they get its progress, and it is cancelled once all of them are.
    """

    def __init__(
        self,
        operation_id: str = "",
        notes: Mapping[str, Any] | None = None,
        save: Callable[[dict[str, Any]], None] = lambda _notes: None,
        *,
        kind: str = "",
        report: Report | None = None,
        followers: list[Operation] | None = None,
    ) -> None:
        self.id = operation_id or secrets.token_hex(8)
        self.kind = kind
        self.notes = dict(notes or {})
        self.has_begun = False
        self.is_queued = False
        self.is_cancelled = False
        self.is_interrupted = False
        self.is_decided = False
        self.result: Any = None
        """The result in the list, of an operation that the store begins itself."""
        self.outcome: dict[str, Any] = {}
        """What the audit says of its end, if the store begins it itself."""
        self.version = 0
        """Grows with each change, for clients that watch."""
        self._save = save
        self._report = report
        self._followers = [] if followers is None else followers
        self._lock = threading.Lock()
        self._on_cancel: list[Callable[[], None]] = []
        self._fraction = 0.0
        self._step: str | None = None
        self._bytes_done = 0
        self._bytes_total: int | None = None
        self._bytes_rate = self._fraction_rate = Rate(time.monotonic())

    def note(self, name: str, value: Any) -> None:
        """Write a note durably, from which the next store finds out whether the operation took effect."""
        self.notes = {**self.notes, name: value}
        self.has_begun = True
        self._save(self.notes)
        for follower in self._followers:
            follower.note(name, value)

    def queue(self) -> None:
        """Note that the work waits for its turn, until its next step."""
        self.is_queued = True
        self.version += 1

    def step(self, name: str, bytes_total: int | None = None) -> None:
        """Begin a step. bytes_total: how many bytes it will advance. Raises OperationCancelled."""
        self.check_cancelled()
        if not self.has_begun:
            self.has_begun = True
            self._save(self.notes)
        now = time.monotonic()
        with self._lock:
            self.is_queued = False
            if self._step is None:
                self._fraction_rate = Rate(now)
            self._step, self._bytes_done, self._bytes_total = name, 0, bytes_total
            self._bytes_rate = Rate(now)
            self._measure(now)
        if self._report is not None:
            self._report({"step": name, "bytesTotal": bytes_total})
        for follower in self._followers:
            with contextlib.suppress(Cancelled):
                follower.step(name, bytes_total)

    def advance(self, n_bytes: int, *, bytes_total: int | None = None) -> None:
        """Count further bytes of the step as done. bytes_total: a better estimate of their total."""
        now = time.monotonic()
        with self._lock:
            self._bytes_done += n_bytes
            self._bytes_total = bytes_total or self._bytes_total
            self._bytes_rate.add(n_bytes, now)
            self._measure(now)
        if self._report is not None:
            self._report({"advance": n_bytes})
        for follower in self._followers:
            follower.advance(n_bytes)

    def check_cancelled(self) -> None:
        """Raise OperationCancelled if it was cancelled, or Cancelled if the store stops before it is decided."""
        if not self.is_decided and any(operation.is_interrupted for operation in (self, *self._followers)):
            raise Cancelled(
                f"the operation {self.id} was interrupted, because the store is stopping",
                hint="send the request again",
            )
        if self.is_cancelled:
            raise OperationCancelled(
                f"the operation {self.id} was cancelled", hint="nothing was changed; start it again if it is wanted"
            )

    def decided(self) -> None:
        """Refuse a cancel from now on. Raises OperationCancelled if a cancel came first."""
        if self._followers and not sum(follower.is_now_decided() for follower in self._followers):
            self.is_cancelled = True
        if not self.is_now_decided():
            self.check_cancelled()

    def is_now_decided(self) -> bool:
        """Decide the operation unless it was cancelled. Returns whether it is decided."""
        with self._lock:
            self.is_decided = self.is_decided or not self.is_cancelled
            self.version += 1
            return self.is_decided

    def cancel(self) -> None:
        """Have the work end as soon as it can. A second call does nothing. Raises OperationDecided."""
        with self._lock:
            if self.is_decided:
                raise OperationDecided(
                    f"the operation {self.id} is decided and will be carried out",
                    hint=f"wait for its end: GET /api/operations/{self.id}",
                )
            was_cancelled, self.is_cancelled = self.is_cancelled, True
            self.version += 1
            calls = [] if was_cancelled else list(self._on_cancel)
        for call in calls:
            call()

    def interrupt(self) -> None:
        """Have the work end because the store is stopping; the next store may carry it on."""
        self.is_interrupted = True
        self.version += 1

    @contextmanager
    def on_cancel(self, call: Callable[[], None]) -> Iterator[None]:
        """Call `call` if the operation is cancelled while the context lasts; at once if it was cancelled before."""
        with self._lock:
            self._on_cancel.append(call)
            is_cancelled = self.is_cancelled
        try:
            if is_cancelled:
                call()
            yield
        finally:
            with self._lock:
                self._on_cancel.remove(call)

    def follow(self, line: Mapping[str, Any]) -> None:
        """Pass on a report of another process."""
        if "step" in line:
            with contextlib.suppress(Cancelled):  # the cancel ends the process that reports
                self.step(str(line["step"]), line.get("bytesTotal"))
        else:
            self.advance(int(line["advance"]))

    def progress(self) -> Progress:
        now = time.monotonic()
        with self._lock:
            speed, share = self._bytes_rate.per_second(now), self._fraction_rate.per_second(now)
            remaining = None if share is None or self._fraction < _SURE else (1 - self._fraction) / share
            return Progress(
                self._fraction, self._step, self._bytes_done, self._bytes_total, _rounded(speed), _rounded(remaining)
            )

    def _measure(self, now: float) -> None:
        of_step = min(1.0, self._bytes_done / self._bytes_total) if self._bytes_total else 0.0
        fraction = progress_of(self.kind, self._step or "", of_step)
        if fraction is not None and fraction > self._fraction:
            self._fraction_rate.add(fraction - self._fraction, now)
            self._fraction = fraction
        self.version += 1


_SURE = 0.01
"""Below this fraction the remaining time is unknown."""

_of_thread = threading.local()
_of_process: list[Operation] = []


def current() -> Operation:
    """Return the operation that this thread works on; if there is none, a new one that nobody watches."""
    operation: Operation | None = getattr(_of_thread, "operation", None)
    return operation or next(iter(_of_process), None) or Operation()


@contextmanager
def working_on(operation: Operation) -> Iterator[None]:
    """Let `current` return this operation in this thread."""
    before = getattr(_of_thread, "operation", None)
    _of_thread.operation = operation
    try:
        yield
    finally:
        _of_thread.operation = before


def use_for_process(operation: Operation) -> None:
    """Let `current` return this operation in every thread of this process, which works on nothing else."""
    _of_process[:] = [operation]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
