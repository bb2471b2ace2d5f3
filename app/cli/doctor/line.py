"""A line of `flask doctor`: what one check found, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from app.cli.doctor.mends import State
from app.cli.program import in_words_of_program


@dataclass(frozen=True)
class DoctorLine:
    """name: of the check. found: one sentence. mend: a command or a sentence; None if there is nothing to do."""

    name: str
    state: State
    found: str
    mend: str | None = None

    def describe(self) -> dict[str, Any]:
        mend = None if self.mend is None else in_words_of_program(self.mend)
        return {"name": self.name, "state": self.state, "found": self.found, "mend": mend}


def ok(name: str, found: str) -> DoctorLine:
    return DoctorLine(name, "ok", found)


def warn(name: str, found: str, mend: str) -> DoctorLine:
    return DoctorLine(name, "warn", found, mend)


def wrong(name: str, found: str, mend: str) -> DoctorLine:
    return DoctorLine(name, "wrong", found, mend)
