"""The port to the problems that wait for a decision."""

from __future__ import annotations

from typing import Protocol

from eventvault.problems import Problem
from eventvault.rpc.markers import audited, changes


class Problems(Protocol):
    @changes
    @audited("accept")
    def accept_problem(self, code: str, about: str | None = None) -> Problem:
        """Accept a problem that health names as `acceptable`, and return it. about: needed if several have the code.

        Raises ProblemNotFound for an unknown code, NothingToAccept if no such problem waits for a decision, or
        InvalidInput if several do; then nothing was changed.
        """
