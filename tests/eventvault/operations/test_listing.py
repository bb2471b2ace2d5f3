"""The list of operations: newest first, in pages, by state and kind."""

from __future__ import annotations

import pytest

from eventvault.errors import InvalidInput
from eventvault.operations.entry import OperationQuery
from eventvault.operations.listing import Listing, OperationSummary


def summaries(count: int) -> list[OperationSummary]:
    return [
        OperationSummary(
            at // 2,
            f"{at:016x}",
            ["create", "verify"][at % 2],
            ["succeeded", "failed", "running"][at % 3],
            ["schedule", "cron", "cron", "shell"][at % 4],
        )
        for at in range(count)
    ]


def listing_of(entries: list[OperationSummary]) -> Listing:
    listing = Listing()
    for entry in reversed(entries):
        listing.enter(entry)
    return listing


def ids(found: list[OperationSummary]) -> list[int]:
    return [int(summary.id, 16) for summary in found]


def test_pages_follow_each_other_without_a_hole_though_newer_ones_come_in_between() -> None:
    entries = summaries(25)
    listing, found, before = listing_of(entries[:20]), list[int](), None
    for alive in (entries[20:23], entries[20:25], [], entries[20:]):
        page = ids(listing.matching(OperationQuery(limit=6, before=before), alive))
        found += page
        before = f"{page[-1]:016x}"
    assert found == [*range(22, -1, -1)]
    assert listing.matching(OperationQuery(before=before), []) == []


def test_states_and_kinds_choose_what_is_listed() -> None:
    listing = listing_of(summaries(12))
    assert ids(listing.matching(OperationQuery(states=["failed"]), [])) == [10, 7, 4, 1]
    assert ids(listing.matching(OperationQuery(states=["failed", "running"], kinds=["create"]), [])) == [10, 8, 4, 2]


def test_those_that_one_client_began_are_listed_page_by_page() -> None:
    listing, alive = listing_of(summaries(12)), [OperationSummary(9, "f" * 16, "create", "running", "cron")]
    first = listing.matching(OperationQuery(started_by="cron", limit=3), alive)
    assert ids(first) == [int("f" * 16, 16), 10, 9]
    query = OperationQuery(started_by="cron", limit=3, before=first[-1].id)
    assert ids(listing.matching(query, alive)) == [6, 5, 2]


def test_a_bound_that_is_no_operation_is_refused() -> None:
    with pytest.raises(InvalidInput, match="there is no operation"):
        listing_of(summaries(2)).matching(OperationQuery(before="f" * 16), [])


def test_an_operation_that_is_entered_again_is_there_once() -> None:
    listing = listing_of(summaries(3))
    listing.enter(OperationSummary(9, f"{1:016x}", "create", "succeeded", "cron"))
    assert ids(listing.matching(OperationQuery(), [])) == [1, 2, 0]
    listing.remove(f"{2:016x}")
    assert ids(listing.matching(OperationQuery(), [])) == [1, 0]
