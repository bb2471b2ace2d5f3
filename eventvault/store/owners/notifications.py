"""Sends test notifications."""

from __future__ import annotations

from eventvault.notifications.service import NotificationService
from eventvault.notifications.values import Delivery
from eventvault.store.ports.notifications import Notifications


class NotificationsOwner(Notifications):
    """The database need not be open: somebody may want to know whether they would hear of that."""

    def __init__(self, notifications: NotificationService) -> None:
        self._notifications = notifications

    def send_test_notification(self) -> list[Delivery]:
        return self._notifications.notifier.send_test()
