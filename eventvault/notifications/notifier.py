"""Watches health and the backups, and tells NOTIFY_URLS what changes: one message for all changes within a minute."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from eventvault import clock
from eventvault.errors import EventVaultError, NotifyNotConfigured
from eventvault.notifications.conditions import Conditions
from eventvault.notifications.deliveries import Deliveries
from eventvault.notifications.messages import compose, trial_message
from eventvault.notifications.outbox import NotificationOutbox
from eventvault.notifications.receivers import Receivers
from eventvault.notifications.values import Change, Delivery
from eventvault.problems import Problem
from eventvault.settings import Settings
from eventvault.wording import counted

log = logging.getLogger("BackupManager")

BURST_SECONDS = 60.0
"""All changes within this time after the first one are in one message."""
CHECK_SECONDS = 5.0
STOP_SECONDS = 2.0
"""How long a stop waits to note what was delivered, so that it is not delivered again."""
_KNOWING_STATES = frozenset({"serving", "read_only", "failed"})
"""In other states health does not know all problems yet."""

Outcome = tuple[str, str, int] | int
"""Message, hint and time of a failed backup; or the time of a successful one. In microseconds."""


class Notifier:
    """Has a thread of its own if there are addresses. It is an `eventvault.backups.outcomes.OutcomeListener`.

    status: returns what health shows.
    """

    def __init__(self, settings: Settings, status: Callable[[], dict[str, Any]]) -> None:
        self._settings = settings
        self._status = status
        self._receivers = Receivers()
        self._wake = threading.Event()
        self._deliveries = Deliveries(settings.notify_urls, self._receivers, on_end=self._wake.set)
        self._outcomes: deque[Outcome] = deque(maxlen=1000)
        self._began = clock.now()
        self._health = "ok"
        self._waiting = 0
        self._dropped = 0
        self._outbox_problem: str | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def begun(self) -> None:
        """Do nothing: nobody is told that a scheduled backup begins."""

    def succeeded(self) -> None:
        self._outcomes.append(clock.now())
        self._wake.set()

    def failed(self, error: EventVaultError) -> None:
        self._outcomes.append((error.message, error.hint, clock.now()))
        self._wake.set()

    def check_soon(self) -> None:
        """Read health at once, because a request has changed something."""
        self._wake.set()

    def start(self) -> None:
        if self._settings.notify_urls and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="notifications", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread soon; the outbox has what it did not deliver."""
        self._stopping.set()
        self._wake.set()
        self._receivers.stop()

    def send_test(self) -> list[Delivery]:
        """Send a message to each address now. Raises NotifyNotConfigured if there is no address."""
        if not self._settings.notify_urls:
            raise NotifyNotConfigured("NOTIFY_URLS is not set", hint="set it to Apprise addresses, and restart")
        message = trial_message(socket.gethostname(), clock.now(), len(self._settings.notify_urls))
        return self._deliveries.send_to_all(message)

    def problems(self) -> list[Problem]:
        if self._outbox_problem is None:
            return self._deliveries.problems()
        message = f"notifications that were not delivered would be lost with the store: {self._outbox_problem}"
        hint = "make room on the disk of STORAGE_DIR, or make it writable"
        return [*self._deliveries.problems(), Problem("notify_failing", message, hint, "outbox")]

    def counts(self) -> dict[str, int]:
        """Return counters since the start of the store."""
        return {**self._deliveries.counts, "dropped": self._dropped}

    def describe(self) -> dict[str, Any]:
        return {"addresses": list(self._deliveries.shown), "waiting": self._waiting}

    def _run(self) -> None:
        outbox = NotificationOutbox(self._settings.storage_dir, self._deliveries.shown)
        conditions = Conditions(outbox.conditions)
        while not self._stopping.is_set():
            try:
                self._work(outbox, conditions)
            except Exception:
                log.exception("notifications failed; they go on")
            self._wake.wait(min(CHECK_SECONDS, self._deliveries.wait_seconds(outbox) or CHECK_SECONDS))
            self._wake.clear()
        deadline = time.monotonic() + STOP_SECONDS
        while not self._deliveries.finish(outbox) and time.monotonic() < deadline:
            self._wake.wait(STOP_SECONDS / 10)
            self._wake.clear()

    def _work(self, outbox: NotificationOutbox, conditions: Conditions) -> None:
        now = clock.now()
        self._check(outbox, conditions, now)
        if outbox.burst is not None and not 0 <= now - outbox.burst < BURST_SECONDS * 1e6:
            self._close_burst(outbox, conditions, now)
        outbox.drop_old(now)
        self._deliveries.deliver(outbox)
        self._waiting, self._dropped, self._outbox_problem = len(outbox.messages), outbox.dropped, outbox.problem

    def _check(self, outbox: NotificationOutbox, conditions: Conditions, now: int) -> None:
        changes, restored = self._backup_changes(conditions), outbox.restored
        status = self._status()
        if status["store"]["state"] in _KNOWING_STATES and status["disk"] is not None and not self._stopping.is_set():
            self._health = status["status"]
            is_complete = status["backup"]["available"] and status["backup"]["count"] is not None
            changes += conditions.update(status["problems"], status["disk"], now, is_complete=is_complete)
            restored = (status["lastRestore"] or {}).get("at", "")
            if restored != outbox.restored:
                changes += self._restores(status["lastRestore"], now, is_first=outbox.restored is None)
        if changes or restored != outbox.restored:
            outbox.add(changes, conditions.all(), restored, now)

    def _backup_changes(self, conditions: Conditions) -> list[Change]:
        changes = []
        while self._outcomes:
            outcome = self._outcomes.popleft()
            if isinstance(outcome, int):
                changes += conditions.backup_succeeded(outcome)
            else:
                changes += conditions.backup_failed(*outcome)
        return changes

    def _restores(self, last: Mapping[str, Any] | None, now: int, *, is_first: bool) -> list[Change]:
        """Return the change of a restore. is_first: none was told before, so one before this store is not told."""
        if last is None:
            return []
        made = clock.parse(last["at"])
        is_old = is_first and made < self._began
        return [] if is_old else [Change("restored", "restore", _describe(last), "", made, now)]

    def _close_burst(self, outbox: NotificationOutbox, conditions: Conditions, now: int) -> None:
        make = partial(
            compose,
            open_conditions=conditions.all(),
            health=self._health,
            host=socket.gethostname(),
            at=now,
            addresses=len(self._settings.notify_urls),
        )
        outbox.close_burst(make)


def _describe(last: Mapping[str, Any]) -> str:
    """Return a sentence about a restore. last: `lastRestore` of health."""
    what = {
        "backup": "restored from {source}",
        "moment": "restored to a moment, from {source}",
        "undo": "an undo brought back {source}",
        "recovered": "the database was recovered from {source}",
    }.get(last["kind"], "restored from {source}")
    count = (last["leftBehind"] or {}).get("count")
    were = "was" if count == 1 else "were"
    replaced = f"; {counted(count, 'event')} {were} set aside" if count else ""
    return f"{what.format(source=last['source'])}, {counted(last['events'], 'event')}{replaced}"
