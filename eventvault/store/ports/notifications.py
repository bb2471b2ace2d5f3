"""The port to the notifications of problems."""

from __future__ import annotations

from typing import Protocol

from eventvault.notifications.values import Delivery
from eventvault.rpc.markers import changes


class Notifications(Protocol):
    @changes
    def send_test_notification(self) -> list[Delivery]:
        """Send a message to each address of NOTIFY_URLS now, and return the outcomes, in their order.

        Raises NotifyNotConfigured if there is no address.
        """
