"""A moment as text."""

from __future__ import annotations

import pytest

from eventvault import clock
from eventvault.errors import InvalidInput
from eventvault.past.moment_text import moment_of
from eventvault.restore.values import Moment

INSTANT = clock.parse("2026-01-31T12:34:56.789Z")
GENERATION = "0123456789abcdef"


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("now", Moment()),
        ("42", Moment(sequence=42)),
        ("0", Moment(sequence=0)),
        ("0123456789012345", Moment(sequence=123456789012345)),
        ("2026-01-31T12:34:56.789Z", Moment(instant=INSTANT)),
        ("2026-01-31T13:34:56.789+01:00", Moment(instant=INSTANT)),
        ("2026-01-31T13:34:56.789 01:00", Moment(instant=INSTANT)),
        ("2026-01-31t12:34:56.789z", Moment(instant=INSTANT)),
        ("2026-01-31T12:34:56.7890009Z", Moment(instant=INSTANT)),
        (f"{GENERATION}@", Moment(generation=GENERATION)),
        (f"{GENERATION}@42", Moment(sequence=42, generation=GENERATION)),
        (f"{GENERATION}@2026-01-31T12:34:56.789Z", Moment(instant=INSTANT, generation=GENERATION)),
        ("backup_2024-12-27_120000.tar.gz", Moment(archive="backup_2024-12-27_120000.tar.gz")),
        ("mine.tar.gz.age", Moment(archive="mine.tar.gz.age")),
    ],
)
def test_what_names_a_moment(text: str, moment: Moment) -> None:
    assert moment_of(text, "from") == moment


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "-1",
        "9223372036854775808",
        "2026-01-31T12:34:56",
        GENERATION,
        f"{GENERATION}@now",
        "@42",
        "x@1",
    ],
)
def test_what_names_none_is_invalid_and_says_where(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        moment_of(text, "from")

    assert caught.value.details["fields"] == {"from": ["Not an instant, a sequence or an archive's name."]}
