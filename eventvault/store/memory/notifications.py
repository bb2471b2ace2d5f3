"""The double of the notifications: addresses that accept or refuse every message."""

from __future__ import annotations

from eventvault.errors import NotifyNotConfigured
from eventvault.notifications.values import Delivery
from eventvault.store.ports.notifications import Notifications


class MemoryNotifications(Notifications):
    """receivers: address → why it refuses messages; None if it accepts them."""

    def __init__(self) -> None:
        self.receivers: dict[str, str | None] = {}

    def send_test_notification(self) -> list[Delivery]:
        if not self.receivers:
            raise NotifyNotConfigured("NOTIFY_URLS is not set", hint="set it to Apprise addresses, and restart")
        return [Delivery(address, problem is None, 0.0, problem) for address, problem in self.receivers.items()]
