"""The dead man's switch of scheduled backups: PING_URL gets a request when a backup begins, succeeds or fails.

The paths are those of healthchecks.io and similar services: `/start`, the address itself, `/fail`. Such a service
notices what EventVault cannot report: that it does not run any more.
"""

from __future__ import annotations

import logging
import queue
import threading
from urllib.parse import urlsplit, urlunsplit

from eventvault import clock
from eventvault.errors import EventVaultError
from eventvault.notifications.receivers import Receivers
from eventvault.notify_addresses import mask
from eventvault.problems import Problem

log = logging.getLogger("BackupManager")

ANSWER_SECONDS = 10.0
RETRY_SECONDS = (5.0, 30.0)
"""How long after its first failed request, and its second, the outcome of a backup is sent again."""
_MOST_WAITING = 100
START, SUCCESS, FAIL = "/start", "", "/fail"


class Pinger:
    """Sends the requests in order, in its own thread. It is an `eventvault.backups.outcomes.OutcomeListener`."""

    def __init__(self, address: str | None) -> None:
        self.counts = {"sent": 0, "failed": 0}
        self._address = address or ""
        self._receivers = Receivers()
        self._queue: queue.Queue[str] = queue.Queue(_MOST_WAITING)
        self._problem: Problem | None = None
        self._stopping = threading.Event()

    def begun(self) -> None:
        self._enter(START)

    def succeeded(self) -> None:
        self._enter(SUCCESS)

    def failed(self, error: EventVaultError) -> None:
        self._enter(FAIL)

    def start(self) -> None:
        if self._address:
            threading.Thread(target=self._run, name="ping", daemon=True).start()

    def stop(self) -> None:
        self._stopping.set()
        self._receivers.stop()

    def problems(self) -> list[Problem]:
        return [self._problem] if self._problem is not None else []

    def _enter(self, signal: str) -> None:
        if self._address:
            try:
                self._queue.put_nowait(signal)
            except queue.Full:  # the other service has noticed the silence long ago
                self.counts["failed"] += 1

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._tell(self._queue.get(timeout=1.0))
            except queue.Empty:
                continue
            except Exception:
                log.exception("a ping failed; the next one goes on")

    def _tell(self, signal: str) -> None:
        """Send a signal until an answer comes. A start, or an outcome that a later one follows, is sent only once."""
        for rest in (*RETRY_SECONDS, None):
            problem = self._ask(signal)
            is_news = signal != START and self._queue.empty()
            if problem is None or not is_news or rest is None or self._stopping.wait(rest):
                return

    def _ask(self, signal: str) -> str | None:
        result = self._receivers.ask("ping", {0: with_signal(self._address, signal)}, ANSWER_SECONDS)[0]
        self.counts["sent" if result.problem is None else "failed"] += 1
        if result.problem is None:
            self._problem = None
        elif not self._stopping.is_set():
            self._note(result.problem)
        return result.problem

    def _note(self, reason: str) -> None:
        shown = mask(self._address)
        log.warning("%s was not told of a backup: %s", shown, reason)
        since = self._problem.since if self._problem is not None else clock.now()
        hint = "see whether PING_URL is right and reachable. The next scheduled backup tries it again"
        message = f"{shown} was not told of the newest scheduled backup: {reason}"
        self._problem = Problem("notify_failing", message, hint, "PING_URL", since)


def with_signal(address: str, signal: str) -> str:
    """Return the address with `/start` or `/fail` after its path; a query stays."""
    parts = urlsplit(address)
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") + signal)) if signal else address
