"""Numbers in sentences for people."""

from __future__ import annotations


def counted(count: int, one: str, many: str | None = None) -> str:
    """Return `1 event`, `1,234 events`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
