"""What every Health promises."""

from __future__ import annotations

from eventvault.store.ports.store import Store


def test_a_new_store_is_well(empty_store: Store) -> None:
    status = empty_store.status()

    assert (status["status"], status["problems"]) == ("ok", [])
    assert (status["store"]["events"], status["backup"]["count"], status["backup"]["latest"]) == (0, 0, None)
