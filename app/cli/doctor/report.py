"""Makes the report that `flask doctor --json` prints for support requests, without payloads, tokens and passwords."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from app.cli.doctor.checks import changed_settings, problems_of
from app.cli.doctor.line import DoctorLine
from app.cli.doctor.mends import mend_of
from app.cli.program import in_words_of_program
from eventvault import __version__, clock
from eventvault.doctor.facts import Backups, Database, Facts, Folder

_LIBRARIES = ("flask", "gunicorn", "plyvel", "msgspec", "confluent-kafka")
_OF_PROBLEM = ("code", "message", "hint", "about", "since", "acceptable")


def report(facts: Facts, lines: Sequence[DoctorLine]) -> dict[str, Any]:
    """Return the report as plain data."""
    return {
        "checks": [line.describe() for line in lines],
        "problems": [_problem(problem) for problem in problems_of(facts)],
        "at": clock.format_milliseconds(facts.at),
        "versions": _versions(),
        "service": {
            "state": facts.store.state,
            "mode": facts.store.mode,
            "version": facts.store.version,
            "store": None if facts.status is None else facts.status["store"]["state"],
        },
        "settings": [
            {name: setting[name] for name in ("name", "value", "default")} for setting in changed_settings(facts)
        ],
        "folders": [_folder(facts, folder) for folder in facts.folders],
        "sizes": _sizes(facts),
        "lastWords": facts.last_words.splitlines(),
    }


def _problem(problem: Any) -> dict[str, Any]:
    return {**{name: problem.get(name) for name in _OF_PROBLEM}, "mend": in_words_of_program(mend_of(problem))}


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {
        "eventvault": __version__, "python": platform.python_version(), "system": platform.platform(),
    }  # fmt: skip
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def _folder(facts: Facts, folder: Folder) -> dict[str, Any]:
    return {
        "setting": folder.setting,
        "exists": folder.exists,
        "writable": folder.writable,
        "bytes": facts.sizes.get(folder.setting),
        "free": folder.free,
        "total": folder.total,
        "fileSystem": None if folder.file_system is None else folder.file_system.kind,
        "readOnly": None if folder.file_system is None else folder.file_system.read_only,
    }


def _sizes(facts: Facts) -> dict[str, int | None]:
    backups, database = facts.backups or Backups(), facts.database or Database()
    store = (facts.status or {}).get("store") or {}
    return {
        "events": store.get("events", database.events),
        "tables": database.tables,
        "archives": backups.archives,
        "archiveBytes": backups.size,
        "segments": backups.segments,
    }
