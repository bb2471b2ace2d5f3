"""Every interleaving of starts, orphan workers, take-overs and kills, in the model of `docs/starts.md`."""

from __future__ import annotations

import pytest

from tests.starts_model import RULES, Model, Starter, State, Store

pytestmark = pytest.mark.slow

START_BESIDE_ORPHAN = State(
    stores=(Store("old", at="serve"),), socket=0, owner=0, dead=frozenset({"old"}), remembered=frozenset({"old"}),
    starters=(Starter("new", "start"), Starter("old", "worker"), Starter("new", "worker")),
)  # fmt: skip
"""The old master was killed; its store still serves, and one of its workers has not noticed yet."""
TWO_STARTS = State(
    starters=(Starter("one", "start"), Starter("two", "start"), Starter("one", "worker"), Starter("two", "worker"))
)
START_BESIDE_LIVING_SERVICE = State(
    stores=(Store("old", at="serve"),), socket=0, owner=0, remembered=frozenset({"old"}),
    starters=(Starter("new", "start"), Starter("old", "worker"), Starter("new", "worker")),
)  # fmt: skip
UPGRADE = State(
    stores=(Store("old", at="serve", earlier=True),), socket=0, owner=0, dead=frozenset({"old"}), kills=0,
    remembered=frozenset({"old"}), starters=(Starter("new", "start"), Starter("old", "worker", earlier=True)),
)  # fmt: skip
"""The killed master was of a version whose workers and stores know no announcements."""
SCENARIOS = {
    "orphan": START_BESIDE_ORPHAN,
    "two": TWO_STARTS,
    "living": START_BESIDE_LIVING_SERVICE,
    "upgrade": UPGRADE,
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_each_archive_is_applied_once_and_never_over_an_event_of_a_start_that_is_ready(name: str) -> None:
    count, restored = 0, False
    for state in Model().reachable(SCENARIOS[name]):
        count += 1
        assert not _is_wrong(state), state
        owners = [store for store in state.stores if store and store.at not in ("lock", "master")]
        assert len(owners) <= 1, state
        if any(store and store.at == "serve" and store.service != "old" for store in state.stores):
            restored = True
            assert state.applied[:2] == ("staged", "archive"), state
    assert count > 50
    assert restored


@pytest.mark.slow
@pytest.mark.parametrize("rule", sorted(RULES))
def test_each_rule_is_needed(rule: str) -> None:
    """Without it, an interleaving exists that loses or repeats something, or leaves a start without its restores."""
    model = Model(RULES - {rule})
    scenarios = [first._replace(kills=2 * first.kills) for first in SCENARIOS.values()]
    assert any(_is_wrong(state) for first in scenarios for state in model.reachable(first))


def _is_wrong(state: State) -> bool:
    """What must never be, or: a start counts as ready, and a store serves without its restores."""
    ready = any(starter and starter.kind == "start" and starter.at == "ready" for starter in state.starters)
    serving = any(store and store.at == "serve" for store in state.stores)
    return state.violation is not None or (ready and serving and "archive" in (state.dropped, state.intent))
