"""A thread that must not end survives what nobody foresaw."""

from __future__ import annotations

import logging

import pytest

from eventvault.unforeseen import Unforeseen


def test_an_unforeseen_error_is_counted_and_logged_once_while_it_stays_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    unforeseen = Unforeseen("the look", logging.getLogger("test"))
    for error in (KeyError("a"), KeyError("a"), ValueError("b")):
        with unforeseen.survived():
            raise error
    assert (unforeseen.count, unforeseen.newest) == (3, "ValueError: b")
    assert [record.message for record in caplog.records] == ["the look failed unexpectedly, and goes on"] * 2
    with unforeseen.survived():
        pass
    assert (unforeseen.count, unforeseen.newest) == (3, "")


def test_an_end_that_is_asked_for_is_no_error() -> None:
    with pytest.raises(KeyboardInterrupt), Unforeseen("the look", logging.getLogger("test")).survived():
        raise KeyboardInterrupt
