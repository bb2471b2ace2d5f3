"""What is said of a moment that cannot be had: the same wherever it was asked for."""

from __future__ import annotations

from typing import Any

from eventvault.errors import MomentUnavailable


def unavailable(
    why: str, *, hint: str, generation: str, window: dict[str, Any], before: bool = False
) -> MomentUnavailable:
    """`window` with `oldest` and `newest`, each {time, sequence}, of what can be had of `generation`.

    Of its ends the nearer one alone is `nearest`, which is the oldest only for a moment `before` it: whoever takes what
    is named there must not lose everything. There is never one on the other side: a state is all that was up to some
    event, so that beyond a gap nothing can be had.
    """
    end = window["oldest" if before else "newest"]
    return MomentUnavailable(why, hint=hint, window=window, nearest=[{"generation": generation, **end}])
