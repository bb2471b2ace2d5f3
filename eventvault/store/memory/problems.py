"""The double of the problems: those that a test lets wait."""

from __future__ import annotations

from eventvault.errors import InvalidInput, NothingToAccept, ProblemNotFound
from eventvault.problems import CONSEQUENCES, Problem
from eventvault.store.ports.problems import Problems


class MemoryProblems(Problems):
    def __init__(self) -> None:
        self.waiting: list[Problem] = []

    def accept_problem(self, code: str, about: str | None = None) -> Problem:
        if code not in CONSEQUENCES:
            raise ProblemNotFound(f"there is no problem {code}", hint="GET /api/health names the problems there are")
        matching = [problem for problem in self.waiting if problem.code == code and about in (None, problem.about)]
        if not matching:
            raise NothingToAccept(f"no problem {code} waits", hint="GET /api/health names the problems there are")
        if len(matching) > 1:
            raise InvalidInput(
                f"{len(matching)} problems {code} wait", hint="name one in `about`", fields={"about": []}
            )
        self.waiting.remove(matching[0])
        return matching[0]
