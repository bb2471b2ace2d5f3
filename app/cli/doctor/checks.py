"""The checks of `flask doctor`: pure functions from the facts to lines, in the order in which they are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from app.cli import text
from app.cli.doctor.access import check_access
from app.cli.doctor.database import check_backups, check_database, check_jobs, check_journal, check_rehearsal
from app.cli.doctor.line import DoctorLine, ok, warn, wrong
from app.cli.doctor.mends import Problem, check_of, mend_of, state_of
from app.cli.doctor.start import check_start
from app.cli.text import Times
from eventvault import __version__, clock
from eventvault import settings as all_settings
from eventvault.doctor.facts import Facts, Folder

_WITH_LINKS = frozenset("ext2 ext3 ext4 xfs btrfs tmpfs overlay zfs f2fs bcachefs jfs".split())  # noqa: SIM905
_WITHOUT_LINKS = frozenset({"vfat", "msdos", "exfat"})
LITTLE_BYTES = 64 * 10**6
"""With less room than this a disk counts as full."""
WEEK = 7


def all_lines(facts: Facts, times: Times) -> list[DoctorLine]:
    """Return the lines of all checks. If a line of a check is `wrong`, the `ok` lines of this check are omitted."""
    problems = problems_of(facts)
    lines: list[DoctorLine] = []
    for name, check in CHECKS.items():
        of_check = [*_lines_of_unanswered(facts, name), *check(facts, times)]
        of_check += _lines_of_problems(facts, [problem for problem in problems if check_of(problem) == name], of_check)
        is_wrong = any(line.state == "wrong" for line in of_check)
        lines += [line for line in of_check if not (is_wrong and line.state == "ok")]
    return lines


def problems_of(facts: Facts) -> list[Problem]:
    """Return the problems of the tokens and of health. Without a running store, a start reports them."""
    problems: list[Problem] = []
    if facts.access is not None:
        problems += [problem.describe() for problem in facts.access.problems]
    if facts.status is not None:
        return [*facts.status["problems"], *problems]
    if facts.start is not None:
        problems += [problem.describe() for problem in facts.start.problems]
        problems += [problem.describe(acceptable=True) for problem in facts.start.open]
    if facts.backups is not None:
        problems += [problem.describe() for problem in facts.backups.problems]
    keys = [(problem["code"], problem["message"]) for problem in problems]
    return [problem for number, problem in enumerate(problems) if keys.index(keys[number]) == number]


def check_settings(facts: Facts, times: Times) -> list[DoctorLine]:
    mend = "correct it, or unset it: docs/settings.md lists all settings"
    if facts.settings_problems or facts.settings is None:
        return [wrong("settings", problem, mend) for problem in facts.settings_problems]
    changed = text.counted(len(changed_settings(facts)), "is", "are")
    return [ok("settings", f"all allowed; {changed} not the default")]


def changed_settings(facts: Facts) -> list[dict[str, Any]]:
    """Return the settings that are not the default, as the API shows them; of a secret only that it is set."""
    if facts.settings is None:
        return []
    described = all_settings.describe(facts.settings)
    return [
        setting
        for setting in described
        if setting["source"] == "environment" and setting["value"] != setting["default"]
    ]


def check_storage(facts: Facts, times: Times) -> list[DoctorLine]:
    folder = facts.folder("STORAGE_DIR")
    if folder is None:
        return []
    if not folder.exists:
        return [ok("storage", f"{folder.path} is not there yet; a start makes it")]
    if folder.problem is not None:
        return [_unusable("storage", folder)]
    kind = folder.file_system.kind if folder.file_system is not None else None
    size = facts.sizes.get("STORAGE_DIR")
    words = [
        *([text.size(size)] if size is not None else []),
        *(["writable"] if folder.writable else []),
        *([kind] if kind else []),
        *(["hard links work"] if kind in _WITH_LINKS else []),
    ]
    lines = [ok("storage", f"{folder.path}: {', '.join(words)}")]
    if not folder.writable:
        lines.append(_not_writable("storage", folder))
    if kind in _WITHOUT_LINKS:
        found = f"{folder.path} is on {kind}, which knows no hard links: each backup copies the whole database"
        lines.append(warn("storage", found, "move STORAGE_DIR to a local disk with ext4 or XFS"))
    return [*lines, *_odd("storage", folder)]


def check_lock(facts: Facts, times: Times) -> list[DoctorLine]:
    lock, store = facts.lock, facts.store
    if lock is None and store.state == "none":
        return []
    pid = store.pid or (lock.pid if lock is not None else None)
    holder = f"process {pid}" if pid else "another process"
    since = f", since {times.of_day(lock.since, facts.at)}" if lock is not None and lock.since else ""
    if store.state == "other version":
        version = f"of EventVault {store.version}" if store.version else "of another version"
        found = f"held by a store {version}, {holder}; this is EventVault {__version__}"
        return [wrong("lock", found, "restart the service, so that both are of one version")]
    if store.state == "silent":
        return [_silent(holder, pid, stopped=lock is not None and lock.stopped)]
    if store.state == "answers":
        of_command = "" if store.mode != "command" else " that a command started; no service runs"
        return [ok("lock", f"held by the store{of_command}, {holder}{since}")]
    if lock is not None and lock.held:
        if lock.stopped:
            return [_silent(holder, pid, stopped=True)]
        return [warn("lock", f"held by {holder}{since}, which does not listen: it starts or ends",
                     "wait, then look again: flask doctor")]  # fmt: skip
    return [ok("lock", "free: no service runs")]


def _silent(holder: str, pid: int | None, *, stopped: bool) -> DoctorLine:
    if stopped:
        return wrong("lock", f"held by {holder}, which a signal has stopped", f"let it go on: kill -CONT {pid}")
    mend = "wait a minute, as a stuck store is replaced automatically; then restart the service"
    return wrong("lock", f"held by the store, {holder}, which does not answer", mend)


def check_disk(facts: Facts, times: Times) -> list[DoctorLine]:
    disks = (facts.status or {}).get("disk") or {}
    backups, storage = facts.folder("BACKUP_DIR"), facts.folder("STORAGE_DIR")
    lines = list(_disk_line(backups, disks.get("backups") or {}, "backups are"))
    if backups is None or storage is None or None in (backups.device, storage.device):
        return lines
    if not _are_on_one_disk(backups, storage):
        return [*lines, *_disk_line(storage, disks.get("storage") or {}, "the database is")]
    source = f" ({backups.file_system.source})" if backups.file_system is not None else ""
    found = f"backups and storage are on one disk{source}: its loss takes both"
    mend = f"set BACKUP_DIR to another disk, or copy {Path(backups.path).name}/ elsewhere"
    return [*lines, warn("disk", found, mend)]


def _are_on_one_disk(one: Folder, other: Folder) -> bool:
    """Return whether both folders are on one disk. btrfs shows each subvolume of a disk as another device."""
    sources = {folder.file_system.source for folder in (one, other) if folder.file_system is not None}
    return one.device == other.device or (len(sources) == 1 and sources.pop().startswith("/dev/"))


def _disk_line(folder: Folder | None, known: dict[str, Any], what: str) -> Iterator[DoctorLine]:
    free: int | None = known.get("free") or (folder.free if folder is not None else None)
    if free is None:
        return
    growth, days = known.get("growthPerDay"), known.get("daysLeft")
    pace = f": {_about(days)} at {text.size(growth)} a day" if days is not None and growth else ""
    found = f"{text.size(free)} free where {what}{pace}"
    mend = "free some space there, or make the disk larger"
    if free < LITTLE_BYTES:
        yield wrong("disk", found, mend)
    elif days is not None and days < WEEK:
        yield warn("disk", found, mend)
    else:
        yield ok("disk", found)


def _about(days: int) -> str:
    if days < 60:
        return f"about {text.counted(days, 'day')}"
    return f"about {days // 30} months" if days < 730 else f"about {days // 365} years"


def check_clock(facts: Facts, times: Times) -> list[DoctorLine]:
    if facts.clock is None:
        return []
    newest = _newest_event(facts)
    runs = "runs forward" if facts.clock.forward else "jumps"
    if not facts.clock.forward:
        return [
            warn("clock", "it was set while it was looked at", "let one service alone set the clock (chrony, ntpd)")
        ]
    if facts.status is None and facts.clock.ahead is not None:
        found = f"it leapt ahead by {text.seconds(facts.clock.ahead / 1e6)} and would not be believed"
        return [wrong("clock", found, "set the clock right; if it is right, start the service and: flask problems "
                      "accept clock_ahead")]  # fmt: skip
    if newest is None:
        return [ok("clock", f"no event yet; {runs}")]
    behind = newest - facts.at
    if behind > 5_000_000 and facts.status is None:
        return [wrong("clock", f"{text.seconds(behind / 1e6)} behind the newest event", "set the clock right")]
    return [ok("clock", f"{_distance(abs(behind) / 1e6)} from the newest event; {runs}")]


def _distance(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds:.2f} s"
    return text.seconds(seconds) if seconds < 48 * 3600 else text.counted(int(seconds / 86400), "day")


def _newest_event(facts: Facts) -> int | None:
    if facts.status is not None and not facts.status["store"]["events"]:
        return None
    window = (facts.status or {}).get("window") or {}
    time = (window.get("newest") or {}).get("time")
    if time is not None:
        return clock.parse(time)
    return facts.database.last_recorded if facts.database is not None else None


def check_kafka(facts: Facts, times: Times) -> list[DoctorLine]:
    if facts.settings is None:
        return []
    servers = facts.settings.kafka_bootstrap_servers
    if not servers:
        return [ok("kafka", "not used")]
    kafka = (facts.status or {}).get("kafka") or {}
    if kafka.get("configured"):
        if not kafka["connected"]:
            if any(problem["code"] == "kafka_refused" for problem in (facts.status or {}).get("problems", [])):
                return []  # its line says more
            return [warn("kafka", f"{servers} does not answer", "start the broker, or correct KAFKA_BOOTSTRAP_SERVERS")]
        lag = "" if kafka["lag"] is None else f", {text.counted(kafka['lag'], 'message')} behind"
        partitions = text.counted(len(kafka["partitions"]), "partition")
        waiting = (kafka.get("publish") or {}).get("backlog")
        unpublished = f", {text.counted(waiting, 'event')} to be published" if waiting else ""
        several = text.counted(len(kafka["topics"]), "topic")
        topics = several if kafka["topic"] is None else f"topic {kafka['topic']}"
        return [ok("kafka", f"{servers} answers; {topics}, {partitions}{lag}{unpublished}"), *_readable(facts)]
    if facts.brokers.refused is not None:
        return [wrong("kafka", facts.brokers.refused, facts.brokers.hint), *_readable(facts)]
    away = {server: reason for server, reason in facts.brokers.reached.items() if reason is not None}
    if away and len(away) == len(facts.brokers.reached):
        reasons = "; ".join(f"{server}: {reason}" for server, reason in away.items())
        return [warn("kafka", f"no broker can be reached: {reasons}", "start it, or correct KAFKA_BOOTSTRAP_SERVERS")]
    can_be = f"{servers} can be reached; a service takes the events of {facts.settings.kafka_events_topic}"
    return [ok("kafka", can_be), *_readable(facts)]


def _readable(facts: Facts) -> list[DoctorLine]:
    return [warn("kafka", found, "chmod 600 on that file") for found in facts.brokers.readable]


def _nothing(facts: Facts, times: Times) -> list[DoctorLine]:
    """Return no line, for a check that only shows problems."""
    return []


def check_backup_folder(facts: Facts, times: Times) -> list[DoctorLine]:
    """Return lines about BACKUP_DIR itself, and about what lies in it."""
    folder = facts.folder("BACKUP_DIR")
    if folder is None:
        return []
    if folder.problem is not None:
        return [_unusable("backups", folder)]
    lines = check_backups(facts, times)
    if folder.exists and not folder.writable:
        lines.append(_not_writable("backups", folder))
    return [*lines, *_odd("backups", folder)]


def check_next_start(facts: Facts, times: Times) -> list[DoctorLine]:
    folder = facts.folder("RESTORE_DIR")
    if folder is not None and folder.problem is not None:
        return [_unusable("start", folder)]
    return [*check_start(facts), *(_odd("start", folder) if folder is not None else [])]


CHECKS: dict[str, Callable[[Facts, Times], list[DoctorLine]]] = {
    "settings": check_settings,
    "storage": check_storage,
    "files": _nothing,
    "lock": check_lock,
    "store": _nothing,
    "start": check_next_start,
    "database": check_database,
    "journal": check_journal,
    "backups": check_backup_folder,
    "disk": check_disk,
    "rehearsal": check_rehearsal,
    "clock": check_clock,
    "kafka": check_kafka,
    "notify": _nothing,
    "jobs": check_jobs,
    "access": check_access,
}
"""Name of a check → what it finds; problems of health are added to it."""

_PARTS = {
    "STORAGE_DIR": "storage", "BACKUP_DIR": "backups", "RESTORE_DIR": "start", "user": "storage", "brokers": "kafka",
    "sizes": "", "last_words": "",
}  # fmt: skip
"""Part of the facts → the check that needs it, if that has another name; empty if none does."""


def _lines_of_unanswered(facts: Facts, name: str) -> Iterator[DoctorLine]:
    for part in facts.unanswered:
        if _PARTS.get(part, part) == name:
            found = "it could not be looked at in time: a disk does not answer, or has very many files"
            yield wrong(name, found, "check the disks of the three folders and their mounts")
            return
    for part, reason in facts.failed.items():
        if _PARTS.get(part, part) == name:
            yield wrong(name, f"it could not be looked at: {reason}", "check that disk, its mount and its permissions")
            return


def _lines_of_problems(facts: Facts, problems: Sequence[Problem], others: Sequence[DoctorLine]) -> Iterator[DoctorLine]:
    shown = {line.found for line in others}
    for problem in problems:
        found = _describe_problem(facts, problem)
        if found not in shown:
            shown.add(found)
            yield DoctorLine(check_of(problem), state_of(problem), found, mend_of(problem))


def _describe_problem(facts: Facts, problem: Problem) -> str:
    if problem["code"] != "backup_damaged" or facts.backups is None or not facts.backups.archives:
        return str(problem["message"])
    damaged, count = facts.backups.archives - facts.backups.good, facts.backups.archives
    return f"{damaged} of {count} {'is' if damaged == 1 else 'are'} damaged: {problem['message']}"


def _unusable(name: str, folder: Folder) -> DoctorLine:
    found = f"{folder.setting} {folder.path} cannot be used: {folder.problem}"
    return wrong(name, found, "let the user of the service read and write it; make sure that its disk is mounted")


def _not_writable(name: str, folder: Folder) -> DoctorLine:
    if folder.file_system is not None and folder.file_system.read_only:
        return wrong(name, f"{folder.path} is on a disk that is mounted read-only",
                     "mount it so that it can be written; meanwhile the service reads")  # fmt: skip
    return wrong(name, f"{folder.path} cannot be written to", "let the user of the service write to it")


def _odd(name: str, folder: Folder) -> list[DoctorLine]:
    return [warn(name, f"{odd} and no file", "remove it, if it is not yours for a purpose") for odd in folder.odd]
