"""The difference of two moments equals that of a comparison of all their events."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest

from eventvault import clock
from eventvault.database.values import ScanQuery
from eventvault.errors import EventVaultError, GenerationSuperseded, TooBusy
from eventvault.events import event
from eventvault.past import diff
from eventvault.past.pool import MAX_OPEN
from eventvault.past.values import DiffQuery, PastView
from eventvault.restore.values import Moment
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests.eventvault.past.past_moments import generation_of, ids_at, ids_of, post
from tests.restoring import drafts, make_archive
from tests.schedule import series_seed
from tests.stores import running_service


@pytest.fixture
def service(settings: Settings) -> Iterator[StoreService]:
    with running_service(settings) as service:
        yield service


def differences(service: StoreService, one: PastView, other: PastView) -> tuple[list[dict[str, Any]], int]:
    """All lines, and the last sequence that was not compared."""
    query = DiffQuery(one, other)
    lines: list[dict[str, Any]] = []
    while True:
        page = service.diff(query)
        found = [orjson.loads(line) for line in page.lines]
        counts = [sum(line["in"] == side for line in found) for side in ("from", "to", "both")]
        assert counts == [page.only_one, page.only_other, page.different]
        lines += found
        if page.next is None:
            return lines, page.common
        query = DiffQuery(one, other, page.next)


def said(service: StoreService, one: Moment, other: Moment) -> dict[str, list[str]]:
    """The ids on each side."""
    lines, _ = differences(service, service.resolve_moment(one), service.resolve_moment(other))
    found: dict[str, list[str]] = {"from": [], "to": [], "both": []}
    for line in lines:
        found[line["in"]].append((line.get("event") or line["from"])["id"])
    return found


@pytest.mark.slow
def test_a_moment_and_itself_do_not_differ(service: StoreService) -> None:
    post(service, "a", 3)

    assert said(service, Moment(sequence=2), Moment(sequence=2)) == {"from": [], "to": [], "both": []}


@pytest.mark.slow
def test_of_one_lineage_the_later_moment_has_more(service: StoreService) -> None:
    post(service, "a", 5)

    assert said(service, Moment(sequence=2), Moment()) == {"from": [], "to": ["a-2", "a-3", "a-4"], "both": []}
    assert said(service, Moment(), Moment(sequence=4)) == {"from": ["a-4"], "to": [], "both": []}


@pytest.mark.slow
def test_a_restore_is_a_difference_in_both_directions(service: StoreService) -> None:
    post(service, "shared", 2)
    name = service.create_backup().backup.name
    left = generation_of(service)
    service.append(drafts(1, "same") + drafts(1, "lost") + drafts(1, "changed", data=1))
    service.restore(name)
    service.append(drafts(1, "new") + drafts(1, "changed", data=2))
    service.append([draft_like(service, left, "same-0")])

    found = said(service, Moment(generation=left), Moment())

    assert found == {"from": ["lost-0"], "to": ["new-0"], "both": ["changed-0"]}
    _, common = differences(service, service.resolve_moment(Moment(generation=left)), service.resolve_moment(Moment()))
    assert common == 2, "what both share was not looked at"


@pytest.mark.slow
def test_an_event_that_was_sent_again_without_a_time_is_no_difference(service: StoreService) -> None:
    name = service.create_backup().backup.name
    left = generation_of(service)
    for time in ("2026-01-31T12:00:00Z", "2026-01-31T13:00:00Z"):
        service.append(drafts(1, "filled-in") + drafts(1, "given", time=time))
        if generation_of(service) == left:
            service.restore(name)

    assert said(service, Moment(generation=left), Moment()) == {"from": [], "to": [], "both": ["given-0"]}


def draft_like(service: StoreService, generation: str, event_id: str) -> event.EventDraft:
    """The same event, sent again by a client."""
    view = service.resolve_moment(Moment(generation=generation))
    page = service.scan(ScanQuery(generation=view.generation, upto=view.sequence))
    (attributes,) = [found for found in map(orjson.loads, page.events) if found["id"] == event_id]
    return event.draft(attributes, clock.now())


@pytest.mark.slow
def test_an_archive_from_elsewhere_is_compared_event_by_event(service: StoreService) -> None:
    make_archive(service.settings.backup_dir / "theirs.tar.gz", "theirs", 2)
    post(service, "ours", 2)

    found = said(service, Moment(archive="theirs.tar.gz"), Moment())

    assert found == {"from": ["theirs-0", "theirs-1"], "to": ["ours-0", "ours-1"], "both": []}


@pytest.mark.slow
def test_pages_add_up_to_the_whole(service: StoreService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diff, "MAX_COMPARED", 7)
    make_archive(service.settings.backup_dir / "theirs.tar.gz", "theirs", 20)
    post(service, "ours", 25)

    found = said(service, Moment(archive="theirs.tar.gz"), Moment())

    assert found["from"] == [f"theirs-{number}" for number in range(20)]
    assert found["to"] == [f"ours-{number}" for number in range(25)]


@pytest.mark.slow
def test_any_two_moments_differ_as_their_events_do(service: StoreService) -> None:
    chance = random.Random(series_seed())
    names = []
    generations = [generation_of(service)]
    for step in range(6):
        service.append([draft for draft in drafts(6, "any", data=chance.randrange(2)) if chance.random() < 0.6])
        post(service, f"step-{step}")
        if chance.random() < 0.5:
            names.append(service.create_backup().backup.name)
        elif names:
            service.restore(chance.choice(names))
            generations.append(generation_of(service))
    moments = [Moment(generation=generation) for generation in generations] + [Moment(archive=name) for name in names]
    moments.append(Moment(sequence=service.scan(ScanQuery(limit=1)).last_sequence // 2))

    for one, other in [chance.sample(moments, 2) for _ in range(8) if len(moments) > 1]:
        before, after = set(ids_at(service, one)), set(ids_at(service, other))
        found = said(service, one, other)
        assert (set(found["from"]), set(found["to"])) == (before - after, after - before), (one, other)
        assert set(found["both"]) <= before & after


def test_what_is_not_kept_any_more_is_said(service: StoreService) -> None:
    post(service, "a", 3)
    there = service.resolve_moment(Moment())

    with pytest.raises(GenerationSuperseded):
        service.diff(DiffQuery(PastView("archive-0123456789abcdef", 2), there))


def many_generations(service: StoreService, count: int) -> list[str]:
    """The superseded generations of `count` restores, each with an event of its own."""
    post(service, "shared")
    name = service.create_backup().backup.name
    found = []
    for number in range(count):
        found.append(generation_of(service))
        post(service, f"left-{number}", 2)
        service.restore(name)
    return found


def within_seconds(work: Callable[[], Any], seconds: float = 60) -> Any:
    """Return or raise what `work` does; fail if it hangs."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(work())
        except EventVaultError as error:
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert outcome, "it hangs"
    return outcome[0]


@pytest.mark.slow
def test_a_diff_beside_exports_that_leave_it_no_room_is_refused_and_hangs_nobody(
    settings_with: Callable[..., Settings],
) -> None:
    with running_service(settings_with({"KEEP_UNDO": "10"})) as service:
        generations = many_generations(service, MAX_OPEN + 1)
        views = [service.resolve_moment(Moment(generation=each)) for each in generations]
        holders = [object() for _ in range(MAX_OPEN - 1)]
        for holder, view in zip(holders, views, strict=False):
            service.lease_generation(view.generation, holder)
            ids_of(service, view)

        refused = within_seconds(lambda: service.diff(DiffQuery(views[-2], views[-1])))

        assert isinstance(refused, TooBusy)
        within_seconds(lambda: service.event_log.release(holders[0]))
        assert len(within_seconds(lambda: service.diff(DiffQuery(views[-2], views[-1]))).lines) == 4
        within_seconds(service.undo)
        assert within_seconds(lambda: service.append(drafts(1, "after"))).last_sequence == 4
