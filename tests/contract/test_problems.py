"""What every Problems port promises."""

from __future__ import annotations

import pytest

from eventvault.errors import NothingToAccept, ProblemNotFound
from eventvault.store.ports.store import Store


def test_nothing_can_be_accepted_where_nothing_waits(store: Store) -> None:
    for about in (None, "a"):
        with pytest.raises(NothingToAccept):
            store.accept_problem("rolled_back", about)


@pytest.mark.slow
def test_an_unknown_code_is_not_found(store: Store) -> None:
    with pytest.raises(ProblemNotFound):
        store.accept_problem("no_such_code")
