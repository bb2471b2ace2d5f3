"""How often dispatcher and workers say that they live: a sixth of a lease."""

from __future__ import annotations

import os

LEASE_SECONDS = 15.0
_VARIABLE = "EVENTVAULT_TICK_SECONDS"
"""Environment variable for tests, which cannot wait for a lease."""


def tick_seconds() -> float:
    """Return the seconds between two ticks of the dispatcher, and between two beats of a worker."""
    return float(os.environ.get(_VARIABLE) or LEASE_SECONDS / 6)
