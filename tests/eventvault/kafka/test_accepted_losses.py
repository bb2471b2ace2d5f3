"""Accepted losses on disk: each is there until it has taken effect, whatever becomes of the process."""

from __future__ import annotations

from pathlib import Path

from eventvault import data_folders
from eventvault.kafka.accepted_losses import Accepted, AcceptedLosses

ONE, OTHER = Accepted("events", 0, "a gap"), Accepted("orders", 3, "recreated")


def test_what_was_accepted_is_there_in_the_next_process_until_it_has_taken_effect(tmp_path: Path) -> None:
    first = AcceptedLosses(tmp_path)
    assert first.all() == ()
    for loss in (ONE, OTHER, ONE):
        first.add(loss)
    second = AcceptedLosses(tmp_path)
    assert second.all() == first.all() == (ONE, OTHER)
    second.remove(ONE)
    third = AcceptedLosses(tmp_path)
    assert third.all() == (OTHER,)
    third.remove(OTHER)
    third.remove(OTHER)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_accepts_nothing_and_is_put_aside(tmp_path: Path) -> None:
    losses = AcceptedLosses(tmp_path)
    losses.add(ONE)
    path = tmp_path / data_folders.KAFKA_ACCEPTED
    path.write_bytes(path.read_bytes().replace(b"a gap", b"a gip"))
    assert AcceptedLosses(tmp_path).all() == ()
    assert [each.name.partition(".json")[0] for each in tmp_path.iterdir()] == ["kafka_accepted"]
    assert not path.exists()
