"""Accepts problems that wait for a decision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from eventvault.errors import NothingToAccept, ProblemNotFound
from eventvault.operations.operation import Operation
from eventvault.problems import CONSEQUENCES, OpenProblems, Problem
from eventvault.store.lifecycle import Lifecycle
from eventvault.store.ports.problems import Problems


class ProblemsOwner(Problems):
    """status: what health says, for a code that cannot be accepted."""

    def __init__(self, lifecycle: Lifecycle, open_problems: OpenProblems, status: Callable[[], dict[str, Any]]) -> None:
        self._lifecycle = lifecycle
        self._open_problems = open_problems
        self._status = status

    def accept_problem(self, code: str, about: str | None = None, *, operation: Operation | None = None) -> Problem:
        """The database need not be open: a start that failed may wait for this decision."""
        operation = operation or Operation()
        self._lifecycle.check_started()
        noted = operation.notes.get("problem")
        if noted is None:
            problem = self._find(code, about)
            operation.note("problem", msgspec.to_builtins(problem))
        else:
            problem = msgspec.convert(noted, Problem)
        self._open_problems.accept_waiting(problem)
        return problem

    def _find(self, code: str, about: str | None) -> Problem:
        """Raise NothingToAccept also for a problem that no decision ends, ProblemNotFound for an unknown code."""
        problems = [problem for problem in self._status()["problems"] if problem["code"] == code]
        if problems and not any(problem.get("acceptable") for problem in problems):
            raise NothingToAccept(f"{code} cannot be accepted; nothing was changed", hint=problems[0]["hint"])
        if not problems and code not in CONSEQUENCES:
            raise ProblemNotFound(
                f"there is no problem {code}; nothing was changed",
                hint=f"GET /api/health names the problems there are; these can be accepted: {', '.join(CONSEQUENCES)}",
            )
        return self._open_problems.find(code, about)
