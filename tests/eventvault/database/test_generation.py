from __future__ import annotations

import random

import msgspec
import pytest

from eventvault import clock
from eventvault.database.generation import (
    NO_BOUND,
    Generation,
    StoreIdentity,
    check_generations,
    first_identity,
    has_many_generations,
    identity_without_parent,
    last_common,
    oldest_first,
    without_forgotten,
)


def test_the_present_generation_shares_everything_with_itself() -> None:
    identity = first_identity(1)

    assert identity.last_common(identity.generation) == 2**63 - 1


def test_a_restore_shares_the_events_up_to_its_fork() -> None:
    before = first_identity(1)
    after = before.forked(at_sequence=100, reason="restored", instant=2, previous=before)

    assert after.last_common(before.generation) == 100
    assert after.present.parent == before.generation


def test_two_futures_share_what_lies_before_the_earlier_fork() -> None:
    root = first_identity(1)
    left = root.forked(at_sequence=100, reason="restored", instant=2, previous=root)
    present = root.forked(at_sequence=130, reason="restored", instant=3, previous=left)

    assert present.last_common(left.generation) == 100
    assert present.last_common(root.generation) == 130


def test_a_generation_that_nobody_heard_of_is_unknown() -> None:
    assert first_identity(1).last_common("0" * 16) is None


def test_another_registry_shares_nothing() -> None:
    other = first_identity(1)
    imported = first_identity(2)
    present = imported.forked(at_sequence=5, reason="restored", instant=3, previous=other)

    assert present.last_common(other.generation) == 0


def restored(identity: StoreIdentity, instant: int, live: StoreIdentity | None = None) -> StoreIdentity:
    return identity.forked(at_sequence=1, reason="restored", instant=instant, previous=live or identity)


@pytest.mark.parametrize("seed", range(5))
def test_generations_are_in_the_order_in_which_they_began_whatever_the_clock_says(seed: int) -> None:
    chance = random.Random(seed)
    archived = [first_identity(500)]
    live, begun = archived[0], [archived[0].generation]
    for _ in range(100):
        live = restored(chance.choice(archived), chance.randrange(1000), live)
        begun.append(live.generation)
        archived.append(live)
    scattered = list(live.generations)
    chance.shuffle(scattered)

    assert [generation.id for generation in oldest_first(scattered)] == begun
    some = chance.sample(scattered, 40)
    assert [generation.id for generation in oldest_first(some)] == [
        one for one in begun if one in {each.id for each in some}
    ]


def test_a_database_that_continues_no_other_one_is_later_than_those_of_the_one_that_it_replaces() -> None:
    replaced = restored(first_identity(500), 900)
    present = identity_without_parent(replaced, 7, "imported")

    assert oldest_first(reversed(present.generations)) == list(present.generations)


def test_a_generation_tells_what_it_is_later_than_only_where_the_clock_was_set_back() -> None:
    first = first_identity(500)

    assert b"laterThan" not in msgspec.json.encode(restored(first, 501))
    assert b'"laterThan":500' in msgspec.json.encode(restored(first, 500))


def test_generations_of_an_earlier_version_come_after_those_they_descend_from() -> None:
    root = Generation("0" * 16, None, 0, "created", 300)
    child = Generation("1" * 16, root.id, 1, "restored", 100)
    grandchild = Generation("2" * 16, child.id, 1, "restored", 200)
    sibling = Generation("3" * 16, root.id, 1, "restored", 400)

    assert oldest_first([sibling, grandchild, child, root]) == [root, child, grandchild, sibling]


def test_generations_in_a_circle_or_at_the_end_of_time_are_ordered_too() -> None:
    one = Generation("1" * 16, "2" * 16, 0, "restored", 1)
    two = Generation("2" * 16, one.id, 0, "restored", clock.YEAR_10000 - 1)
    after = restored(StoreIdentity("0" * 16, two.id, (one, two)), 5)
    last = restored(after, 6)

    assert {generation.id for generation in oldest_first([one, two])} == {one.id, two.id}
    assert msgspec.json.decode(msgspec.json.encode(last), type=StoreIdentity) == last
    assert [generation.id for generation in oldest_first(last.generations)][-2:] == [after.generation, last.generation]


def registry_of(count: int, seed: int = 1) -> StoreIdentity:
    """A registry with that many restores, each of a random one of the generations before."""
    chance = random.Random(seed)
    generations = [Generation(f"{0:016x}", None, 0, "created", 1)]
    for number in range(1, count):
        parent = generations[chance.randrange(max(0, number - 30), number)]
        reason = chance.choice(["restored", "undone", "rolled back" if number % 50 == 0 else "restored"])
        generations.append(Generation(f"{number:016x}", parent.id, chance.randrange(1000), reason, number))
    return StoreIdentity("0" * 16, generations[-1].id, tuple(generations))


def size_of(identity: StoreIdentity) -> int:
    return len(msgspec.json.encode(identity.generations))


@pytest.mark.parametrize("seed", range(5))
def test_what_two_generations_share_is_the_same_once_others_are_forgotten(seed: int) -> None:
    identity = registry_of(400, seed)
    referenced = {f"{number:016x}" for number in random.Random(seed).sample(range(400), 30)}
    shorter = without_forgotten(identity, referenced, remembered=0)
    before, after = identity.by_id(), shorter.by_id()
    assert referenced < after.keys() < before.keys()
    assert {shorter.generation} <= after.keys()
    check_generations(shorter.generation, shorter.generations)
    for one in after:
        for other in after:
            assert last_common(after, one, other) == last_common(before, one, other)
    assert shorter.origin_time(shorter.generation) == identity.origin_time(identity.generation)
    assert shorter.last_common(shorter.generation) == NO_BOUND


def test_an_undo_of_a_forgotten_generation_says_nothing_of_an_older_one() -> None:
    root = first_identity(1)
    left = root.forked(at_sequence=5, reason="restored", instant=2, previous=root)
    undone = left.forked(at_sequence=9, reason="undone", instant=3, previous=left)
    assert undone.is_complete_at(left.generation, 9)
    shorter = without_forgotten(undone, set(), remembered=0)
    assert not shorter.is_complete_at(root.generation, 9)
    assert shorter.present.parent == root.generation
    assert shorter.last_common(root.generation) == 5


def test_few_generations_are_all_remembered() -> None:
    identity = registry_of(1000)
    assert not has_many_generations(identity)
    assert without_forgotten(identity, set()) == identity


@pytest.mark.slow
def test_of_many_generations_the_oldest_without_a_reference_are_forgotten() -> None:
    identity = registry_of(6000)
    assert has_many_generations(identity)
    shorter = without_forgotten(identity, {f"{7:016x}"})
    assert 500_000 < size_of(shorter) < 2**20
    kept = shorter.by_id()
    assert f"{7:016x}" in kept
    assert all(f"{number:016x}" in kept for number in range(5000, 6000))
    assert {each.id for each in identity.generations if each.reason == "rolled back"} <= kept.keys()


@pytest.mark.slow
def test_of_very_many_that_something_refers_to_the_oldest_are_forgotten_too() -> None:
    identity = registry_of(20_000)
    shorter = without_forgotten(identity, identity.by_id().keys())
    assert size_of(shorter) < 2**21
    assert shorter.present == identity.present
