"""The checks of `flask doctor` about stored data: the databases, the journal, the backups and their rehearsal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from app.cli import text
from app.cli.doctor.line import DoctorLine, ok, warn, wrong
from app.cli.doctor.mends import MENDS
from app.cli.text import Times
from eventvault import clock
from eventvault.doctor.facts import Backups, Database, Facts

_RESTORE = str(MENDS["database_damaged"].text)
_KEEP = "nothing here has its events: copy the folder before you try anything, and look for an older copy of backups/"


def check_database(facts: Facts, times: Times) -> list[DoctorLine]:
    database = facts.database
    if database is None:
        return []
    if database.problems:
        mend = _RESTORE if _can_restore(facts.backups) else _KEEP
        return [wrong("database", f"damaged: {problem}", mend) for problem in database.problems]
    if facts.status is not None:
        return _lines_of_store(facts.status["store"])
    if facts.store.state != "none":
        return [ok("database", f"{text.counted(database.tables, 'table')}, LevelDB's log is whole")]
    if database.kind in ("none", "rest"):
        return _missing(facts, facts.backups, times)
    if database.kind == "foreign":
        found = database.unread or "another program wrote it"
        return [warn("database", found, "start the service: it archives this database and imports its records")]
    if database.holder is not None:
        found = f"{database.holder} has it open, and is not a store of EventVault"
        return [wrong("database", found, "end that process, and do not delete LOCK")]
    return _lines_of_closed_database(database, facts.backups or Backups())


def _can_restore(backups: Backups | None) -> bool:
    return backups is None or backups.unread is not None or bool(backups.archives or backups.segments)


def _lines_of_store(store: dict[str, Any]) -> list[DoctorLine]:
    if store["events"] is None:
        return [ok("database", f"the store is {store['state']}")]
    return [ok("database", f"{text.counted(store['events'], 'event')}, LevelDB's log is whole")]


def _lines_of_closed_database(database: Database, backups: Backups) -> list[DoctorLine]:
    """Return lines about an EventVault database that nobody has open."""
    log = _log(database.torn)
    if database.events is None:
        found = f"{text.counted(database.tables, 'table')}, {log}; the events could not be counted: {database.unread}"
        return [warn("database", found, "check that disk, and that the temporary folder can be written")]
    if backups.last_sequence is not None and database.events < backups.last_sequence:
        found = f"it ends at event {database.events:,}, and the journal has events up to {backups.last_sequence:,}"
        return [warn("database", found, "start the service: it replays them, or says which restore brings them back")]
    return [ok("database", f"{text.counted(database.events, 'event')}, {log}")]


def _log(torn: int) -> str:
    if not torn:
        return "LevelDB's log is whole"
    return f"LevelDB's log ends in {text.counted(torn, 'torn byte')}, which a start cuts off and keeps"


def check_jobs(facts: Facts, times: Times) -> list[DoctorLine]:
    """Return lines about the files of `jobs_db`. A running dispatcher reports their problems in health."""
    jobs, status = facts.jobs, facts.status
    problems = [] if status is None else status["problems"]
    if jobs is None or any(problem["code"] == "jobs_damaged" for problem in problems):
        return []
    if jobs.problems:
        mend = str(MENDS["jobs_damaged"].text)
        return [wrong("jobs", f"jobs_db is damaged: {problem}", mend) for problem in jobs.problems]
    if jobs.returns and status is None:
        found = "jobs_db is gone; a start brings back what was unfinished, held, from BACKUP_DIR/jobs"
        return [warn("jobs", found, "put jobs_db back if you have it, or start the service, then: flask jobs resume")]
    if not jobs.exists or jobs.is_open or status is not None:
        return []
    return [ok("jobs", f"jobs_db has {text.counted(jobs.tables, 'table')}, {_log(jobs.torn)}")]


def _missing(facts: Facts, backups: Backups | None, times: Times) -> list[DoctorLine]:
    start = facts.start
    if start is not None and start.finishes is not None:
        return [ok("database", f"a restore of {start.finishes} is half done; the next start finishes it")]
    if backups is None or backups.unread is not None:
        return [warn("database", "there is none, and whether BACKUP_DIR has it is not known",
                     "let BACKUP_DIR be read, then look again: flask doctor")]  # fmt: skip
    if not backups.sources or facts.settings is None:
        return [ok("database", "none yet; a start makes an empty one")]
    rest = " but for a rest without CURRENT" if facts.database is not None and facts.database.kind == "rest" else ""
    found = f"gone{rest}, {Path(facts.settings.backup_dir).name}/ has it{_up_to(backups, times)}"
    by_start = "start the service, which recovers it, or: " if facts.settings.auto_recover == "true" else ""
    return [wrong("database", found, f"{by_start}flask backup recover")]


def _up_to(backups: Backups, times: Times) -> str:
    last = max(backups.last_sequence or 0, backups.newest_sequence or 0)
    journaled = backups.last_time if (backups.last_sequence or 0) >= (backups.newest_sequence or 0) else None
    moment = journaled or backups.newest
    if moment is None:
        return f" ({backups.sources})"
    return f" up to {times.second(moment)} ({text.counted(last, 'event')}, from {backups.sources})"


def check_journal(facts: Facts, times: Times) -> list[DoctorLine]:
    backups = facts.backups
    if backups is None or backups.unread is not None:
        return []
    gaps = [f"{first:,} to {last:,}" for first, last in backups.gaps]
    words = f"{text.counted(backups.segments, 'segment')}, {'no gap' if not gaps else text.counted(len(gaps), 'gap')}"
    if facts.status is not None:
        journal = facts.status["journal"]
        lines = [ok("journal", f"{journal['secondsAtRisk']:.1f} s at risk, {words}")]
    elif backups.last_time is None:
        lines = [ok("journal", "no segment yet")]
    else:
        lines = [ok("journal", f"up to event {backups.last_sequence:,} of {times.second(backups.last_time)}, {words}")]
    if gaps:
        found = f"neither archives nor segments have the events {', '.join(gaps[:5])}"
        lines.append(wrong("journal", found, "flask backup create, as long as the database has them"))
    if backups.segments_damaged and facts.status is None:
        found = f"{text.counted(backups.segments_damaged, 'segment')} cannot be used"
        lines.append(warn("journal", found, "put a good copy in its place; a service that runs writes it again, "
                          "if the database has its events"))  # fmt: skip
    return lines


def check_backups(facts: Facts, times: Times) -> list[DoctorLine]:
    backups = facts.backups
    if backups is None:
        return []
    if backups.unread is not None:
        return [wrong("backups", f"they cannot be read: {backups.unread}", str(MENDS["backups_unavailable"].text))]
    if not backups.archives:
        if _has_events(facts):
            return [warn("backups", "there is none yet", "flask backup create")]
        return [ok("backups", "none yet")]
    newest = f", the newest of {times.second(backups.newest)}" if backups.newest is not None else ""
    words = "all good" if backups.good == backups.archives else f"{backups.good:,} good"
    lines = [ok("backups", f"{backups.archives:,}, {words}{newest}")]
    if backups.good < backups.archives and not backups.problems:
        bad = backups.archives - backups.good
        found = f"{bad} of {backups.archives}, not made here, {'is' if bad == 1 else 'are'} damaged"
        lines.append(warn("backups", found, "flask backup list --damaged"))
    return lines


def _has_events(facts: Facts) -> bool:
    if facts.status is not None:
        return bool(facts.status["store"]["events"])
    return bool(facts.database is not None and facts.database.events)


def check_rehearsal(facts: Facts, times: Times) -> list[DoctorLine]:
    newest = (facts.status or {}).get("rehearsal") or facts.rehearsal
    if newest is None or newest["at"] is None:
        if facts.backups is None or facts.backups.unread is not None:
            return []
        if not (facts.backups.archives or facts.backups.segments):
            return [ok("rehearsal", "there is nothing to restore yet")]
        return [warn("rehearsal", "no restore was ever tried", "flask backup rehearse")]
    when = times.second(clock.parse(newest["at"]))
    if newest["ok"]:
        took = f", back in {text.seconds(newest['rtoSeconds'])}" if newest["rtoSeconds"] is not None else ""
        return [ok("rehearsal", f"{when}: {text.counted(newest['events'] or 0, 'event')}{took}")]
    problem = (newest["problem"] or {}).get("message", "it failed")
    return [wrong("rehearsal", f"{when}: {problem}", str(MENDS["rehearsal_failed"].text))]
