from __future__ import annotations

from eventvault.database.generation import first_identity


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
