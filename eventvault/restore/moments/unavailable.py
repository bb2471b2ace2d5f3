"""The error for a moment that cannot be restored or read."""

from __future__ import annotations

from typing import Any

from eventvault.errors import MomentUnavailable


def unavailable(
    why: str, *, hint: str, generation: str, window: dict[str, Any], before: bool = False
) -> MomentUnavailable:
    """Return the error, with the window and its nearer end.

    window: {oldest, newest}, each {time, sequence}, of the available moments of `generation`. before: the moment is
    before the window. Only then is `nearest` the oldest: somebody who accepts the proposal must not lose everything. No
    moment follows a gap, because a state needs all events before it.
    """
    end = window["oldest" if before else "newest"]
    return MomentUnavailable(why, hint=hint, window=window, nearest=[{"generation": generation, **end}])
