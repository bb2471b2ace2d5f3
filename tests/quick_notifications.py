"""`python -m tests.quick_notifications …`: a store that tells within seconds what takes a minute otherwise."""

from __future__ import annotations

import sys

from app.store.__main__ import main
from eventvault.notifications import conditions, deliveries, notifier, pinger


def hurry() -> None:
    notifier.BURST_SECONDS, notifier.CHECK_SECONDS = 1.0, 0.2
    conditions.OVER_SECONDS = 1.0
    deliveries.RETRY_SECONDS = (0.1, 0.3)
    pinger.RETRY_SECONDS, pinger.ANSWER_SECONDS = (0.1, 0.3), 2.0


if __name__ == "__main__":
    hurry()
    sys.exit(main())
