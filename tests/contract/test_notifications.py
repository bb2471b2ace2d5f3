"""What every Notifications port promises."""

from __future__ import annotations

import pytest

from eventvault.errors import NotifyNotConfigured
from eventvault.store.ports.store import Store

pytestmark = pytest.mark.slow


def test_no_message_is_sent_where_there_is_nobody_to_notify(store: Store) -> None:
    with pytest.raises(NotifyNotConfigured):
        store.send_test_notification()
