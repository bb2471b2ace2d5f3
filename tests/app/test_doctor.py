"""The lines of `flask doctor`: pure functions from facts to what is wrong and what to do about it."""

from __future__ import annotations

import ast
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from app.cli import text
from app.cli.doctor.checks import CHECKS, all_lines
from app.cli.doctor.line import DoctorLine
from app.cli.doctor.mends import MENDS, mend_of
from app.cli.doctor.report import report
from app.error_codes import ANSWERS, PROBLEMS
from eventvault import clock, errors
from eventvault.doctor.facts import (
    Access,
    Backups,
    Clock,
    Database,
    Facts,
    FileSystem,
    Folder,
    Jobs,
    Lock,
    Start,
    StoreAnswer,
)
from eventvault.errors import EventVaultError
from eventvault.problems import CONSEQUENCES, Problem
from eventvault.settings import DECLARATIONS, load
from tests.service import PROJECT
from tests.stores import folders_beneath

NOW = clock.parse("2026-11-28T21:16:00Z")
TIMES = text.Times(utc=True)
OF_HEALTH = (
    errors.DatabaseError, errors.JournalFailed, errors.JournalDamaged, errors.BackupsUnavailable, errors.BackupsChanged,
    errors.NoSpace, errors.DiskFailed, errors.TooBusy, errors.StoreUnavailable, errors.StoreRestoring,
    errors.KafkaUnreachable,
)  # fmt: skip
"""The errors that health names as problems, by what keeps the database, the journal and the backups from working."""
NEVER_IN_HEALTH = {"database_present", "nothing_to_recover"}


def codes_of_health() -> set[str]:
    found = {cls.code for root in OF_HEALTH for cls in errors._tree(root)}
    return (found | set(PROBLEMS)) - NEVER_IN_HEALTH


@pytest.mark.parametrize("code", sorted(codes_of_health()))
def test_each_code_of_health_has_a_line_with_what_to_do(code: str) -> None:
    about = "events/2" if code.startswith("kafka") else "a.tar.gz"
    problem = Problem(code, "it is so", "the hint", about).describe(acceptable=code in CONSEQUENCES)
    status = {**STATUS, "problems": [problem]}
    lines = [line for line in all_lines(facts(status=status), TIMES) if line.found.endswith("it is so")]
    assert len(lines) == 1
    assert lines[0].name == MENDS[code].check
    assert lines[0].state in ("warn", "wrong")
    assert lines[0].mend
    assert "{" not in lines[0].mend
    assert "POST " not in lines[0].mend
    if code in CONSEQUENCES:
        assert "flask kafka accept" in lines[0].mend or f"flask problems accept {code}" in lines[0].mend


def test_what_the_topic_of_jobs_has_lost_is_accepted_with_the_other_commands_of_jobs() -> None:
    for code in ("kafka_messages_gone", "kafka_topic_diverged"):
        assert mend_of(Problem(code, "it is so", "the hint").describe()).endswith("flask jobs resume")


def test_an_error_that_nobody_foresaw_is_shown_with_its_own_hint() -> None:
    for code in set(ANSWERS) - set(MENDS):
        assert mend_of(Problem(code, "it is so", "do this").describe()) == "do this"


def test_the_table_names_no_check_and_no_code_that_there_is_not() -> None:
    assert {mend.check for mend in MENDS.values()} <= set(CHECKS)
    known = {cls.code for cls in errors._tree(EventVaultError)} | set(PROBLEMS)
    assert set(MENDS) <= known


STATUS: dict[str, Any] = {
    "status": "ok",
    "problems": [],
    "store": {"state": "serving", "events": 42517},
    "journal": {"secondsAtRisk": 0.0},
    "window": {"newest": {"time": "2026-11-28T21:15:59.990Z", "sequence": 42517}},
    "disk": {
        "backups": {"free": 74_800_000_000, "total": 10**11, "growthPerDay": 19_000_000, "daysLeft": 3936},
        "storage": {"free": 74_800_000_000, "total": 10**11, "growthPerDay": None, "daysLeft": None},
    },
    "kafka": {"configured": False},
    "rehearsal": None,
}


SETTINGS = load({**folders_beneath(Path("/srv/eventvault")), "MAX_BACKUPS": "50"})


def folder(setting: str, path: str) -> Folder:
    disk = FileSystem("ext4", "/dev/sda1", read_only=False)
    return Folder(setting=setting, path=path, exists=True, writable=True, device=1, free=74_800_000_000,
                  total=10**11, file_system=disk)  # fmt: skip


def facts(**more: Any) -> Facts:
    """A service in good order, as in the transcript of `docs/doctor.md`; status: of its store, None if none runs."""
    status = more.pop("status", STATUS)
    store = StoreAnswer() if status is None else StoreAnswer(
        state="answers", pid=31736, version="0.1.0", mode="service", status=status
    )  # fmt: skip
    found: dict[str, Any] = {
        "at": NOW,
        "settings": SETTINGS,
        "folders": (
            folder("STORAGE_DIR", "/srv/eventvault/storage"), folder("BACKUP_DIR", "/srv/eventvault/backups"),
            folder("RESTORE_DIR", "/srv/eventvault/restore"),
        ),
        "sizes": {"STORAGE_DIR": 16_000_000},
        "lock": Lock() if status is None else Lock(True, 31736, clock.parse("2026-11-28T20:27:00Z")),
        "store": store,
        "database": Database(kind="ours", tables=3, events=42517, last_recorded=NOW - 10_000),
        "backups": Backups(archives=38, good=38, newest=NOW, newest_sequence=42000, sources="38 archives and the "
                           "journal", segments=23, last_sequence=42517, last_time=NOW - 10_000),
        "start": Start(),
        "clock": Clock(NOW),
    }  # fmt: skip
    return Facts(**{**found, **more})


def lines_of(found: Facts, *names: str) -> list[DoctorLine]:
    return [line for line in all_lines(found, TIMES) if not names or line.name in names]


def shown(found: Facts, *names: str) -> list[tuple[str, str, str | None]]:
    return [(line.state, line.found, line.mend) for line in lines_of(found, *names)]


def test_a_service_in_good_order() -> None:
    assert [(line.state, line.name, line.found) for line in lines_of(facts())] == [
        ("ok", "settings", "all allowed; 5 are not the default"),
        ("ok", "storage", "/srv/eventvault/storage: 16.0 MB, writable, ext4, hard links work"),
        ("ok", "lock", "held by the store, process 31736, since 20:27"),
        ("ok", "database", "42,517 events, LevelDB's log is whole"),
        ("ok", "journal", "0.0 s at risk, 23 segments, no gap"),
        ("ok", "backups", "38, all good, the newest of 2026-11-28 21:16:00"),
        ("ok", "disk", "74.8 GB free where backups are: about 10 years at 19.0 MB a day"),
        ("warn", "disk", "backups and storage are on one disk (/dev/sda1): its loss takes both"),
        ("warn", "rehearsal", "no restore was ever tried"),
        ("ok", "clock", "0.01 s from the newest event; runs forward"),
        ("ok", "kafka", "not used"),
        ("ok", "access", "127.0.0.1:5050 answers only this machine"),
    ]


def test_a_damaged_backup_hides_that_the_others_are_good() -> None:
    name = "backup_2026-11-27_092913.tar.gz"
    problem = Problem("backup_damaged", f"{name}: byte 1,480,206, CRC", "delete", name)
    backups = msgspec.structs.replace(facts().backups, good=37, problems=(problem,))
    assert shown(facts(status={**STATUS, "problems": [problem.describe()]}, backups=backups), "backups") == [
        ("wrong", f"1 of 38 is damaged: {name}: byte 1,480,206, CRC", f"flask backup delete {name}")
    ]


def test_what_was_rolled_back_is_brought_back_by_the_restore_that_is_named() -> None:
    details = {"generation": "86ad05ce70457cf8", "sequence": 41202, "forkSequence": 41171}
    problem = Problem("rolled_back", "31 events are gone", "hint", "99a9877dfd520ed8", details=details)
    assert mend_of(problem.describe(acceptable=True)) == (
        'flask backup restore --at "#41202" --generation 86ad05ce70457cf8, or: flask problems accept rolled_back '
        "--about 99a9877dfd520ed8"
    )
    without = Problem("rolled_back", "31 events are gone", "hint").describe(acceptable=True)
    assert "flask backup restore" not in mend_of(without)


@pytest.mark.parametrize(
    ("recover", "state", "mend", "start"),
    [
        ("false", "wrong", "flask backup recover", "a start is refused: the database is gone, and AUTO_RECOVER=false"),
        ("true", "ok", "start the service, which recovers it, or: flask backup recover",
         "a start recovers the database from 38 archives and the journal (AUTO_RECOVER=true)"),
        ("empty", "warn", "flask backup recover", "a start begins an empty registry (AUTO_RECOVER=empty), though there "
         "is 38 archives and the journal of the lost one"),
    ],
)  # fmt: skip
def test_a_lost_database_is_named_with_the_moment_up_to_which_backups_have_it(
    recover: str, state: str, mend: str, start: str
) -> None:
    settings = dataclasses.replace(SETTINGS, auto_recover=recover)
    found = facts(status=None, database=Database(), settings=settings)
    gone = "gone, backups/ has it up to 2026-11-28 21:15:59 (42,517 events, from 38 archives and the journal)"
    assert shown(found, "database") == [("wrong", gone, mend)]
    assert [(line.state, line.found) for line in lines_of(found, "start")] == [(state, start)]


def without_service(**more: Any) -> Facts:
    return facts(status=None, **more)


@pytest.mark.parametrize(
    ("found", "name", "line"),
    [
        (lambda: without_service(), "lock", ("ok", "free: no service runs")),
        (lambda: without_service(lock=Lock(True, 5)), "lock",
         ("warn", "held by process 5, which does not listen: it starts or ends")),
        (lambda: without_service(store=StoreAnswer(state="silent")), "lock",
         ("wrong", "held by the store, another process, which does not answer")),
        (lambda: without_service(store=StoreAnswer(state="silent"), lock=Lock(True, 5, None, True)), "lock",
         ("wrong", "held by process 5, which a signal has stopped")),
        (lambda: facts(store=StoreAnswer(state="other version", pid=5, version="9.9.9")), "lock",
         ("wrong", "held by a store of EventVault 9.9.9, process 5; this is EventVault 0.1.0")),
        (lambda: without_service(), "start", ("ok", "a start opens the database")),
        (lambda: without_service(start=Start(staged="a.tar.gz", restores="b.tar.gz")), "start",
         ("ok", "a start restores a.tar.gz, as it was staged, then restores b.tar.gz from RESTORE_DIR, then opens the "
          "database")),
        (lambda: without_service(start=Start(finishes="a.tar.gz"), database=Database()), "database",
         ("ok", "a restore of a.tar.gz is half done; the next start finishes it")),
        (lambda: without_service(database=Database(), backups=None, unanswered=("backups",)), "database",
         ("warn", "there is none, and whether BACKUP_DIR has it is not known")),
        (lambda: without_service(backups=None, unanswered=("backups",)), "journal", None),
        (lambda: without_service(backups=None, unanswered=("backups",)), "rehearsal", None),
        (lambda: without_service(database=Database(), backups=Backups()), "database",
         ("ok", "none yet; a start makes an empty one")),
        (lambda: without_service(database=Database(kind="foreign")), "database", ("warn", "another program wrote it")),
        (lambda: without_service(database=Database(kind="ours", problems=("table 000005 is missing",))), "database",
         ("wrong", "damaged: table 000005 is missing")),
        (lambda: without_service(database=Database(kind="ours", problems=("table 000005 is missing",))), "start", None),
        (lambda: without_service(database=Database(kind="ours", holder="the process 7")), "start", None),
        (lambda: Facts(at=NOW, settings_problems=("BACKUP_DIR is …",)), "kafka", None),
        (lambda: without_service(database=Database(kind="ours", events=42517, torn=20)), "database",
         ("ok", "42,517 events, LevelDB's log ends in 20 torn bytes, which a start cuts off and keeps")),
        (lambda: without_service(database=Database(kind="ours", events=42500)), "database",
         ("warn", "it ends at event 42,500, and the journal has events up to 42,517")),
        (lambda: without_service(database=Database(kind="ours", holder="the process 7")), "database",
         ("wrong", "the process 7 has it open, and is not a store of EventVault")),
        (lambda: without_service(jobs=Jobs()), "jobs", None),
        (lambda: without_service(jobs=Jobs(exists=True, tables=2)), "jobs",
         ("ok", "jobs_db has 2 tables, LevelDB's log is whole")),
        (lambda: without_service(jobs=Jobs(exists=True, tables=2, torn=9)), "jobs",
         ("ok", "jobs_db has 2 tables, LevelDB's log ends in 9 torn bytes, which a start cuts off and keeps")),
        (lambda: without_service(jobs=Jobs(exists=True, is_open=True)), "jobs", None),
        (lambda: facts(jobs=Jobs(exists=True)), "jobs", None),
        (lambda: without_service(jobs=Jobs(exists=True, problems=("table 000005 is missing",))), "jobs",
         ("wrong", "jobs_db is damaged: table 000005 is missing")),
        (lambda: facts(jobs=Jobs(exists=True, problems=("table 000005 is missing",))), "jobs",
         ("wrong", "jobs_db is damaged: table 000005 is missing")),
        (lambda: without_service(jobs=Jobs(returns=True)), "jobs",
         ("warn", "jobs_db is gone; a start brings back what was unfinished, held, from BACKUP_DIR/jobs")),
        (lambda: without_service(backups=Backups(unread="Permission denied")), "backups",
         ("wrong", "they cannot be read: Permission denied")),
        (lambda: facts(backups=Backups()), "backups", ("warn", "there is none yet")),
        (lambda: facts(status={**STATUS, "store": {"state": "serving", "events": 0}}), "clock",
         ("ok", "no event yet; runs forward")),
        (lambda: facts(unanswered=("backups",), backups=None), "backups",
         ("wrong", "it could not be looked at in time: a disk does not answer, or has very many files")),
        (lambda: without_service(clock=Clock(NOW, True, 86_400_000_000)), "clock",
         ("wrong", "it leapt ahead by 24 h and would not be believed")),
        (lambda: without_service(settings_problems=("MAX_BACKUPS is 'ten'; allowed: a number",)), "settings",
         ("wrong", "MAX_BACKUPS is 'ten'; allowed: a number")),
        (lambda: without_service(settings_problems=("MAX_BACKUPS is 'ten'; allowed: a number",)), "start",
         ("wrong", "a start is refused: a setting is not allowed")),
    ],
)  # fmt: skip
def test_each_state_has_its_line(found: Callable[[], Facts], name: str, line: tuple[str, str] | None) -> None:
    """None: nothing is said."""
    assert [(each.state, each.found) for each in lines_of(found(), name)] == ([] if line is None else [line])
    assert all(each.mend for each in lines_of(found(), name) if each.state != "ok")


def test_the_report_says_of_a_secret_only_that_it_is_set() -> None:
    secrets = {
        "NOTIFY_URLS": "mailto://me:geheim@example.org ntfy://geheim", "PING_URL": "https://geheim@example.org",
        "API_TOKENS": f"geheim:read:sha256={'ab' * 32}", "KAFKA_SASL_PASSWORD": "geheim",
        "KAFKA_SSL_KEY_PASSWORD": "geheim",
    }  # fmt: skip
    assert {each.name for each in DECLARATIONS if each.secret} == set(secrets)
    found = facts(settings=load({**folders_beneath(Path("/srv/eventvault")), **secrets}))
    printed = json.dumps(report(found, all_lines(found, TIMES)))
    assert "geheim" not in printed
    assert "ab" * 32 not in printed
    assert {"name": "NOTIFY_URLS", "value": "set", "default": None} in json.loads(printed)["settings"]


@pytest.mark.parametrize(
    ("host", "more", "access", "line"),
    [
        ("127.0.0.1", {}, Access(), ("ok", "127.0.0.1:5050 answers only this machine")),
        ("0.0.0.0", {}, Access(), ("wrong", "0.0.0.0:5050 reaches beyond this machine, and there is no token: a start "
                                   "refuses it")),
        ("0.0.0.0", {"allow_unauthenticated": True}, Access(),
         ("warn", "0.0.0.0:5050 answers everybody who reaches it, without a token (ALLOW_UNAUTHENTICATED)")),
        ("0.0.0.0", {}, Access(True, 2), ("ok", "0.0.0.0:5050 wants a token from everybody; 2 tokens are valid")),
        ("127.0.0.1", {}, Access(True, 0),
         ("wrong", "127.0.0.1:5050 is closed, and no token is valid: nobody gets in")),
    ],
)  # fmt: skip
def test_the_door_is_what_settings_and_tokens_say(
    host: str, more: dict[str, Any], access: Access, line: tuple[str, str]
) -> None:
    settings = dataclasses.replace(SETTINGS, host=host, **more)
    assert [(each.state, each.found) for each in lines_of(facts(settings=settings, access=access), "access")] == [line]


def test_a_damaged_database_of_which_nothing_else_is_there_is_not_to_be_restored() -> None:
    damaged = Database(kind="ours", problems=("table 000005 is missing",))
    mends = [
        [line.mend for line in lines_of(without_service(database=damaged, **more), "database")]
        for more in ({}, {"backups": Backups()})
    ]
    assert "flask backup restore" in str(mends[0])
    assert "restore" not in str(mends[1])


@pytest.mark.slow
def test_what_does_not_degrade_health_is_a_warning() -> None:
    calls = [
        node
        for module in (PROJECT / "eventvault").rglob("*.py")
        for node in ast.walk(ast.parse(module.read_bytes()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Problem"
    ]
    never = {
        ast.literal_eval(call.args[0])
        for call in calls
        if any(each.arg == "degrades" and ast.unparse(each.value) == "False" for each in call.keywords)
    }
    assert "kafka_quarantine" in never
    assert {code: MENDS[code].state for code in never} == dict.fromkeys(never, "warn")
