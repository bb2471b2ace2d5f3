"""Delivers the messages of the outbox in order to each address, and tries again after a failure, ever more rarely."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from eventvault import clock
from eventvault.notifications.outbox import NotificationOutbox
from eventvault.notifications.receivers import Receivers, Result
from eventvault.notifications.values import Delivery, Message
from eventvault.notify_addresses import mask_all
from eventvault.problems import Problem

log = logging.getLogger("BackupManager")

ANSWER_SECONDS = 30.0
"""How long all receivers of a message have together."""
RETRY_SECONDS = (10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
"""How long nothing is sent to an address after its first failure in a row, its second and so on."""
FAILING = 2
"""Health names an address after so many failures in a row."""


def _in_thread(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="notification", daemon=True).start()


class _Failures(NamedTuple):
    """in_a_row: how many. since: microseconds. retry_at: monotonic seconds. reason: of the newest one."""

    in_a_row: int
    since: int
    retry_at: float
    reason: str


class Deliveries:
    """addresses: with their secrets. counts: since the start. now: monotonic seconds.

    in_background: runs work that may wait for a receiver. on_end: called when it has ended; call `deliver` again then.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        receivers: Receivers,
        now: Callable[[], float] = time.monotonic,
        in_background: Callable[[Callable[[], None]], None] = _in_thread,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self.shown = mask_all(addresses)
        self.counts = {"delivered": 0, "failed": 0}
        self._addresses = tuple(addresses)
        self._receivers = receivers
        self._failures: dict[int, _Failures] = {}
        self._now = now
        self._in_background = in_background
        self._on_end = on_end
        self._asked: set[int] = set()
        """The places of the addresses to which a message is being sent."""
        self._ended: deque[tuple[Message, dict[int, Result]]] = deque()

    def deliver(self, outbox: NotificationOutbox) -> None:
        """Begin to send each message to the addresses that are due, and note what was delivered."""
        self._note_ended(outbox)
        for message in outbox.messages:
            due = [place for place in message.waiting if place not in self._asked and self._is_due(place)]
            if due:
                self._asked.update(due)
                self._in_background(partial(self._try, message, due))
                self._note_ended(outbox)

    def finish(self, outbox: NotificationOutbox) -> bool:
        """Note what was delivered before the receivers were stopped. Returns True once nothing is being sent."""
        self._note_ended(outbox)
        return not self._asked

    def wait_seconds(self, outbox: NotificationOutbox) -> float | None:
        """Return in how many seconds the next delivery is due; None if nothing waits."""
        waiting = {place for message in outbox.messages for place in message.waiting} - self._asked
        return min((max(0.0, self._retry_at(place) - self._now()) for place in waiting), default=None)

    def send_to_all(self, message: Message) -> list[Delivery]:
        """Send a message that is not in the outbox, and return the outcomes."""
        results = self._send(message, range(len(self._addresses)))
        return [
            Delivery(self.shown[place], result.problem is None, round(result.seconds, 3), result.problem)
            for place, result in results.items()
        ]

    def problems(self) -> list[Problem]:
        return [
            Problem(
                "notify_failing",
                f"{self.shown[place]} does not take notifications: {failures.reason}",
                "see whether that address of NOTIFY_URLS is right and reachable: flask notify test. It is tried again",
                self.shown[place],
                failures.since,
            )
            for place, failures in sorted(self._failures.items())
            if failures.in_a_row >= FAILING
        ]

    def _try(self, message: Message, places: Sequence[int]) -> None:
        """Send a message. Whatever happens, its addresses can be tried again."""
        results = dict.fromkeys(places, Result("the process that sends could not be started", 0.0))
        try:
            results = self._send(message, places)
        except Exception:
            log.exception("a notification could not be sent")
        finally:
            self._ended.append((message, results))
            self._on_end()

    def _note_ended(self, outbox: NotificationOutbox) -> None:
        while self._ended:
            message, results = self._ended.popleft()
            self._asked -= results.keys()
            outbox.delivered(message, [place for place, result in results.items() if result.problem is None])

    def _send(self, message: Message, places: Sequence[int]) -> dict[int, Result]:
        addresses = {place: self._addresses[place] for place in places}
        results = self._receivers.ask(
            "send", addresses, ANSWER_SECONDS, title=message.title, body=message.body, type=message.kind
        )
        for place, result in results.items():
            if result.problem is None or not self._receivers.is_stopped:
                self._note(place, result.problem)
        return results

    def _note(self, place: int, problem: str | None) -> None:
        if problem is None:
            self.counts["delivered"] += 1
            self._failures.pop(place, None)
            return
        self.counts["failed"] += 1
        before = self._failures.get(place, _Failures(0, clock.now(), 0.0, ""))
        rest = RETRY_SECONDS[min(before.in_a_row, len(RETRY_SECONDS) - 1)]
        self._failures[place] = _Failures(before.in_a_row + 1, before.since, self._now() + rest, problem)
        log.warning("%s did not take a notification: %s", self.shown[place], problem)

    def _is_due(self, place: int) -> bool:
        return self._retry_at(place) <= self._now()

    def _retry_at(self, place: int) -> float:
        return self._failures[place].retry_at if place in self._failures else 0.0
