"""Tables of commands: columns as wide as what is in them, but no row as wide as the longest label of all."""

from __future__ import annotations

import pytest

from app.cli import text


def test_columns_end_where_their_longest_cell_ends() -> None:
    shown = text.table(("N", "NAME", "WHAT"), [("1", "a", "x"), ("200", "abc", "")], right={0})
    assert shown.splitlines() == ["  N  NAME  WHAT", "  1  a     x", "200  abc"]


@pytest.mark.slow
def test_a_long_cell_ends_its_line_and_moves_no_other_row() -> None:
    long = "l" * 500
    rows = [("cron", "short", "done"), ("cron", long, "done"), (long, "b", "done"), (long, long, long)]
    assert text.table(("WHO", "TARGET", "RESULT"), rows).splitlines() == [
        "WHO   TARGET  RESULT",
        "cron  short   done",
        f"cron  {long}",
        "              done",
        long,
        "      b       done",
        long,
        f"      {long}",
        f"              {long}",
    ]
