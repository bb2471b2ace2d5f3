"""The check `start` of `flask doctor`: what the next start of the service would do, while none runs."""

from __future__ import annotations

from app.cli.doctor.line import DoctorLine, ok, warn, wrong
from eventvault.doctor.facts import Backups, Facts, Start
from eventvault.settings import Settings

_REFUSING = ("database_missing", "staged_restore_damaged")
"""Codes of problems that keep a start from opening a database."""


def check_start(facts: Facts) -> list[DoctorLine]:
    """Return what a start would do; nothing while a store answers."""
    if facts.store.state != "none" or facts.settings is None or facts.start is None:
        return []
    if facts.settings_problems:
        return [wrong("start", "a start is refused: a setting is not allowed", "correct the settings that are named")]
    if any(problem.code in _REFUSING for problem in facts.start.problems):
        return []  # the line of the problem says so
    backups = facts.backups or Backups()
    if _is_lost(facts) and backups.sources and not facts.start.restores and not facts.start.staged:
        return _recovery(facts.settings, backups)
    if facts.database is not None and (facts.database.problems or facts.database.holder is not None):
        return []  # the line of the database says so
    steps = [*_restores(facts.start), _opening(facts)]
    return [ok("start", f"a start {', then '.join(steps)}")]


def _is_lost(facts: Facts) -> bool:
    has_intent = facts.start is not None and facts.start.finishes is not None
    return facts.database is not None and facts.database.kind in ("none", "rest") and not has_intent


def _recovery(settings: Settings, backups: Backups) -> list[DoctorLine]:
    setting = f"AUTO_RECOVER={settings.auto_recover}"
    if settings.auto_recover == "true":
        return [ok("start", f"a start recovers the database from {backups.sources} ({setting})")]
    if settings.auto_recover == "empty":
        found = f"a start begins an empty registry ({setting}), though there is {backups.sources} of the lost one"
        return [warn("start", found, "flask backup recover, before you start the service")]
    return [wrong("start", f"a start is refused: the database is gone, and {setting}", "flask backup recover")]


def _restores(start: Start) -> list[str]:
    steps = [f"finishes the restore of {start.finishes}"] if start.finishes is not None else []
    steps += [f"restores {start.staged}, as it was staged"] if start.staged is not None else []
    return steps + ([f"restores {start.restores} from RESTORE_DIR"] if start.restores is not None else [])


def _opening(facts: Facts) -> str:
    database = facts.database
    if database is None or database.kind in ("none", "rest"):
        return "opens what was restored" if facts.start and _restores(facts.start) else "makes an empty registry"
    if database.kind == "foreign":
        return "archives and imports the database of another program"
    return "opens the database"
