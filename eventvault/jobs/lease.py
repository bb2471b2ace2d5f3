"""The lease of a worker's session: it ends once LEASE_TICKS ticks were read after the session's last report."""

from __future__ import annotations

import os

LEASE_SECONDS = 15.0
LEASE_TICKS = 6
TICK_SECONDS = LEASE_SECONDS / LEASE_TICKS
_VARIABLE = "EVENTVAULT_TICK_SECONDS"
"""Environment variable for tests, which cannot wait for a lease."""


def tick_seconds() -> float:
    """Return the seconds between two ticks of the dispatcher, and between two beats of a worker."""
    return float(os.environ.get(_VARIABLE) or TICK_SECONDS)
