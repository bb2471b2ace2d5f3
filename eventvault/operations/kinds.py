"""The share of the time that each step of an operation takes, so that its progress is one number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Route = Mapping[str, float]
"""The steps of an operation in their order, each with its weight. An operation may leave out some of them."""

ROUTES: dict[str, Sequence[Route]] = {
    "create": [{"checkpoint": 1, "write": 79, "read back": 19, "enter": 1}],
    "verify": [{"read": 1}, {"unpack": 55, "check": 45}],
    "restore": [{"plan": 1, "unpack": 55, "replay": 20, "check": 20, "open": 2, "swap": 2}],
    "prune": [{"plan": 20, "remove": 80}],
    "rehearse": [{"plan": 1, "unpack": 45, "replay": 15, "check": 15, "open": 4, "compare": 20}],
    "copy": [{"copy": 1}],
    "export": [{"write": 1}],
    "undo": [{"plan": 1, "copy": 50, "check": 45, "open": 2, "swap": 2}],
}
"""Kind → the routes that it may take. A kind without a route counts the bytes of each step."""


def progress_of(kind: str, step: str, fraction: float) -> float | None:
    """Return how much of an operation is done when `fraction` of its step is; None if no route has the step."""
    routes = ROUTES.get(kind)
    if routes is None:
        return fraction
    route = next((route for route in routes if step in route), None)
    if route is None:
        return None
    names = list(route)
    before = sum(route[name] for name in names[: names.index(step)])
    return (before + route[step] * fraction) / sum(route.values())
