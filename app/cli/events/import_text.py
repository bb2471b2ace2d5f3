"""Describes the result of `flask events import`: how many events are in, and which lines are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from app.cli import text
from app.error_codes import ANSWERS
from eventvault.imports.importer import Imported
from eventvault.imports.rejects import Rejected
from eventvault.printable import printable

_NTH = ("first", "second", "third", "fourth", "fifth")
SHOWN_KINDS = len(_NTH)


def imported_json(imported: Imported, rejects: Path | None) -> dict[str, Any]:
    return {
        "name": imported.name,
        "events": imported.new + imported.already,
        "new": imported.new,
        "already": imported.already,
        "rejected": imported.rejected,
        "rejects": None if rejects is None else str(rejects),
        "kinds": msgspec.to_builtins(imported.kinds),
        "resumedAt": imported.resumed or None,
        "broken": imported.broken,
    }


def reject_json(reject: Rejected) -> dict[str, Any]:
    return {"line": reject.record.line, "code": reject.code, "error": reject.error}


def describe(imported: Imported, rejects: Path | None) -> str:
    events = imported.new + imported.already
    are = "is" if events == 1 else "are"
    lines = [
        f"{text.counted(events, 'event')} {are} in: {imported.new:,} new, {imported.already:,} there already."
        f"{_describe_rejects(imported, rejects)}"
    ]
    if imported.resumed:
        lines.insert(0, f"An earlier run had done everything up to line {imported.resumed:,}.")
    lines += [describe_reject(kind.line, kind.code, kind.error) for kind in imported.kinds[:SHOWN_KINDS]]
    if others := _describe_others(imported):
        lines.append(others)
    if imported.broken:
        lines.append(f"The input is not whole: {printable(imported.broken)}. What came before is in.")
    return "\n".join(lines)


def _describe_rejects(imported: Imported, rejects: Path | None) -> str:
    if not imported.rejected:
        return ""
    where = printable(str(rejects)) if rejects is not None else "--rejects FILE writes them to a file"
    verb = "line was" if imported.rejected == 1 else "lines were"
    return f" {imported.rejected:,} {verb} rejected: {where}."


def describe_reject(line: int, code: str, error: str) -> str:
    answer = ANSWERS.get(code)
    status = answer.status if answer is not None else ""
    return f"  line {line:<12,} {status}  {printable(error)}"


def _describe_others(imported: Imported) -> str:
    """Return how many more rejects there are of each kind that is shown."""
    parts = list[str]()
    for name, kind in zip(_NTH, imported.kinds, strict=False):
        if kind.count > 1:
            parts.append(f"{kind.count - 1:,}{' of' if parts else ' more of'} the {name}{'' if parts else ' kind'}")
    others = imported.rejected - sum(kind.count for kind in imported.kinds[:SHOWN_KINDS])
    if others:
        parts.append(f"{others:,} {'other' if others == 1 else 'others'}")
    return f"  {', '.join(parts)}." if parts else ""
