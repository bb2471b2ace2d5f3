"""Rehearsals of restores, which `eventvault.rehearsals` makes."""

from __future__ import annotations

from eventvault.rehearsals.recorded import RecordedRehearsals
from eventvault.rehearsals.results import Rehearsal
from eventvault.restore.values import Moment
from eventvault.store.lifecycle import Lifecycle
from eventvault.store.ports.rehearsals import Rehearsals


class RehearsalsOwner(Rehearsals):
    def __init__(self, lifecycle: Lifecycle, rehearsals: RecordedRehearsals) -> None:
        self._lifecycle = lifecycle
        self._rehearsals = rehearsals

    def rehearse(self, target: Moment | str | None = None) -> Rehearsal:
        self._lifecycle.check_started()
        return self._rehearsals.rehearse(target)

    def list_rehearsals(self) -> list[Rehearsal]:
        return list(self._rehearsals.history.results())
