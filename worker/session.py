"""The attempts of one session and their states. Pure: no process, no socket and no clock.

A token is received, waits, runs, and ends with a report. The dispatcher may send any message again: a repeated message
has no effect, except that the report is repeated.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from eventvault.jobs.messages import Failed, GiveBack, Returned, Run, Stop
from eventvault.recent import Recent
from worker import protocol
from worker.protocol import Outcome, StopReason

REMEMBERED = 5_000
"""Most ended attempts whose report is remembered, to repeat it."""


class Stopping(NamedTuple):
    """A running attempt that must end, and why."""

    token: str
    reason: StopReason


class SupervisorSession:
    """One life of a supervisor, as the dispatcher sees it."""

    def __init__(self, session_id: str) -> None:
        self.id = session_id
        self.is_draining = False
        self._waiting: OrderedDict[str, Run] = OrderedDict()
        self._running: dict[str, Run] = {}
        self._ended: Recent[str, Outcome] = Recent(REMEMBERED)
        self._unseen_stops: Recent[str, str] = Recent(REMEMBERED)
        """Token that was stopped before its attempt came → why."""

    @property
    def have(self) -> list[str]:
        """The tokens of the attempts that were received and have not ended."""
        return [*self._running, *self._waiting]

    @property
    def is_idle(self) -> bool:
        return not self._running and not self._waiting

    @property
    def running(self) -> list[str]:
        return list(self._running)

    def receive(self, run: Run) -> list[Outcome]:
        """Add an attempt. Returns its report if it has ended already, or ends at once."""
        if (ended := self._ended.get(run.token)) is not None:
            return [ended]
        if run.token in self._running or run.token in self._waiting:
            return []
        if (reason := self._unseen_stops.pop(run.token)) is not None:
            return self._stop_waiting(run, reason)
        if self.is_draining:
            return [self._note(returned(run))]
        self._waiting[run.token] = run
        return []

    def start_next(self) -> Run | None:
        """Return the attempt that has waited longest, and count it as running; None if none waits."""
        if not self._waiting:
            return None
        token, run = self._waiting.popitem(last=False)
        self._running[token] = run
        return run

    def end(self, outcome: Outcome) -> list[Outcome]:
        """Note the outcome of a running attempt. Returns the report; nothing if the attempt was refused meanwhile."""
        if self._running.pop(outcome.token, None) is None:
            return []
        return [self._note(outcome)]

    def stop(self, message: Stop) -> tuple[list[Outcome], list[Stopping]]:
        """Return the reports of attempts that end at once, and the running attempts that must be stopped."""
        reports: list[Outcome] = []
        running: list[Stopping] = []
        for token in message.stop:
            if token in self._running:
                running.append(Stopping(token, "cancelled" if message.reason == "cancelled" else "refused"))
            elif (run := self._waiting.pop(token, None)) is not None:
                reports += self._stop_waiting(run, message.reason)
            elif (ended := self._ended.get(token)) is not None:
                reports += [ended] if message.reason == "cancelled" else []
            else:
                self._unseen_stops.put(token, message.reason)
        return reports, running

    def give_back(self, message: GiveBack) -> list[Outcome]:
        """Give back attempts that have not begun. Returns their reports."""
        runs = [self._waiting.pop(token, None) for token in message.give_back]
        return [self._note(returned(run)) for run in runs if run is not None]

    def drain(self) -> list[Outcome]:
        """Begin no further attempt. Returns the reports of the waiting ones."""
        self.is_draining = True
        runs, self._waiting = list(self._waiting.values()), OrderedDict()
        return [self._note(returned(run)) for run in runs]

    def _stop_waiting(self, run: Run, reason: str) -> list[Outcome]:
        if reason == "cancelled":
            return [self._note(cancelled(run))]
        self._note(returned(run))
        return []

    def _note(self, outcome: Outcome) -> Outcome:
        self._ended.put(outcome.token, outcome)
        return outcome


def returned(run: Run) -> Returned:
    return Returned(session=run.to, token=run.token, job=run.job)


def cancelled(run: Run, seconds: float = 0.0) -> Failed:
    return Failed(
        session=run.to, token=run.token, job=run.job, seconds=seconds, error=protocol.cancelled(), outcome="cancelled"
    )
