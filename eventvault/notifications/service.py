"""The notifications of one store: the notifier of problems and restores, and the pinger of scheduled backups."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eventvault.notifications.notifier import Notifier
from eventvault.notifications.pinger import Pinger
from eventvault.problems import Problem
from eventvault.settings import Settings


class NotificationService:
    """status: returns what health shows."""

    def __init__(self, settings: Settings, status: Callable[[], dict[str, Any]]) -> None:
        self.notifier = Notifier(settings, status)
        self.pinger = Pinger(settings.ping_url)

    def start(self) -> None:
        self.notifier.start()
        self.pinger.start()

    def stop(self) -> None:
        self.notifier.stop()
        self.pinger.stop()

    def problems(self) -> list[Problem]:
        """Return why notifications or pings fail; nobody is notified of these problems."""
        return [*self.notifier.problems(), *self.pinger.problems()]

    def counts(self) -> dict[str, int]:
        """Return counters since the start, for `/metrics`."""
        return {
            **{f"notifications_{name}": count for name, count in self.notifier.counts().items()},
            **{f"pings_{name}": count for name, count in self.pinger.counts.items()},
        }
