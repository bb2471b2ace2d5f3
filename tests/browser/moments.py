"""The time of the made-up installation, which stands still."""

from datetime import UTC, datetime

NOW = datetime(2026, 11, 28, 22, 5, 17, tzinfo=UTC)


def text_of(at: datetime) -> str:
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")
