"""Every state of the dashboard: an address, what is different in the world, and what leads to it on the page."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from tests.browser import world, world_jobs
from tests.browser.moments import NOW, text_of
from tests.browser.world import CLEANUP, World

CHOSEN = f"at={(CLEANUP - timedelta(seconds=20)).timestamp():.6f}"
HOUR = f"#/overview?range=3600&{CHOSEN}"
IN_GAP = f"#/overview?at={(NOW - timedelta(days=4, hours=21)).timestamp():.6f}"
DAMAGED = world.backup(20)["name"]


def as_it_is(_: World) -> None:
    pass


def wait_for_heading(page: Any) -> None:
    page.locator("main h1").wait_for()


@dataclass(frozen=True)
class State:
    """change: of the world, before the page is opened. reach: what leads there. words: what must be on the page."""

    name: str
    address: str = "#/overview"
    change: Callable[[World], None] = as_it_is
    reach: Callable[[Any], None] = wait_for_heading
    words: str = ""


def problem(here: World, code: str, message: str, **more: Any) -> None:
    here.health["status"] = "degraded"
    here.health["problems"] = [
        {"code": code, "message": message, "hint": "", "since": text_of(NOW), "about": None, **more}
    ]


def without_events(here: World) -> None:
    here.health["window"] = {end: {"time": text_of(NOW), "sequence": 0} for end in ("oldest", "newest")}
    here.health["store"].update(lastSequence=0, events=0)
    without_backups(here)


def without_backups(here: World) -> None:
    here.backups = []
    here.health["backup"].update(count=0, latest=None, oldestVerified=None)
    here.health["rehearsal"] = None
    here.health["disk"]["backups"]["archives"] = 0


def starting(here: World) -> None:
    here.health["status"] = "restoring"
    here.health["window"] = None
    here.health["store"]["state"] = "restoring"
    running = {**world.RUNNING, "kind": "startup", "startedBy": "start", "cancellable": False}
    here.answers["GET /api/operations"] = lambda _: {"success": True, "operations": [running]}


def restoring(here: World) -> None:
    here.health["jobs"]["restore"] = {
        "running": True, "source": world.backup(3)["name"], "since": text_of(NOW - timedelta(seconds=4)),
        "progress": 0.62, "predictedSeconds": 9.0,
    }  # fmt: skip
    here.answers["GET /api/operations"] = lambda query: {
        "success": True, "operations": [world.RUNNING, *world.operations(query)],
    }  # fmt: skip


def restored(here: World) -> None:
    here.health["lastRestore"] = {
        "kind": "moment", "source": world.backup(0)["name"], "at": text_of(NOW - timedelta(minutes=3)),
        "events": 44_657,
        "moment": {"time": text_of(CLEANUP - timedelta(seconds=20)), "sequence": 44_657}, "durationMs": 6000,
        "notJson": 0, "leftBehind": {"count": 2911}, "undo": None,
    }  # fmt: skip
    here.health["store"].update(lastSequence=44_660, events=44_660)
    here.health["window"]["newest"]["sequence"] = 44_660


def at_risk(here: World) -> None:
    here.health["journal"].update(state="failed", secondsAtRisk=252)
    problem(
        here, "journal_failed", "the journal is behind: /srv/eventvault/backups/journal: No space left on device",
        hint="free some space or inodes (or raise the quota) on that disk; then it works again",
    )  # fmt: skip
    here.health["disk"]["backups"].update(free=0, daysLeft=0)


def backups_away(here: World) -> None:
    here.health["backup"].update(available=False)
    problem(here, "backups_unavailable", "/srv/eventvault/backups cannot be read: Input/output error")


def disk_full_soon(here: World) -> None:
    for disk in ("backups", "storage"):
        here.health["disk"][disk].update(free=1_900_000_000, daysLeft=3.2)
    problem(here, "disk_full_soon", "the disk of /srv/eventvault/backups is full in about 3 days")


DATABASE = "/srv/eventvault/storage/event_registry_db"


def disk_full(here: World) -> None:
    for disk in ("backups", "storage"):
        here.health["disk"][disk].update(free=0, daysLeft=0)
    without_inodes(here)


def without_inodes(here: World) -> None:
    """There is room, and still nothing can be written, as where no inode is left."""
    not_writable(
        here, "no_space", f"the event database could not be written: {DATABASE}/000012.log: No space left on device",
        "free some space or inodes (or raise the quota) on that disk; then it works again",
    )  # fmt: skip


def disk_read_only(here: World) -> None:
    not_writable(
        here, "disk_failed", f"opening {DATABASE} failed: Read-only file system",
        "mount that file system so that it can be written; then it works again",
    )  # fmt: skip


def not_writable(here: World, code: str, message: str, hint: str) -> None:
    here.health["store"].update(state="read_only")
    problem(here, code, message, hint=hint)


def backups_not_mounted(here: World) -> None:
    without_backups(here)
    here.health["journal"].update(state="failed", secondsAtRisk=252)
    problem(
        here, "backups_changed", "/srv/eventvault/backups has nothing of this installation, which has an event "
        "database in /srv/eventvault/storage", acceptable=True,
    )  # fmt: skip


def damaged(here: World) -> None:
    here.backups[20] = {
        **here.backups[20],
        "problem": "its member 000143.ldb has another digest than its manifest says",
    }
    here.health["backup"].update(damagedCount=1)
    problem(
        here, "backup_damaged", f"the backup {DAMAGED} is damaged: its member 000143.ldb has another digest",
        about={"kind": "backup", "name": DAMAGED},
    )  # fmt: skip


def stuck(here: World) -> None:
    here.health["store"].update(state="unreachable")
    problem(here, "store_unavailable", "no store process answers")
    here.answers["GET /api/backup/timeline"] = lambda _: {
        "status_code": 503, "success": False, "code": "store_unavailable",
        "error": "no store process answers", "hint": "",
    }  # fmt: skip


def with_gap(here: World) -> None:
    whole = here.timeline
    gap = {"generation": world.PRESENT, "first": 20_000, "last": 20_400,
           "fromTime": text_of(NOW - timedelta(days=5)),
           "toTime": text_of(NOW - timedelta(days=4, hours=18))}  # fmt: skip
    here.answers["GET /api/backup/timeline"] = lambda _: {**whole(), "gaps": [gap]}
    here.answers["POST /api/backup/restore"] = lambda _: {
        "status_code": 422, "success": False, "code": "moment_unavailable",
        "error": "that moment is in a gap of the journal",
        "hint": "choose a moment of the window; GET /api/backup/timeline shows them all",
        "nearest": [{"generation": world.PRESENT, "sequence": 19_999, "time": gap["fromTime"]}],
    }  # fmt: skip


def without_undo(here: World) -> None:
    here.answers["POST /api/backup/restore"] = lambda _: {
        "success": True, "plan": world.plan(undo={"kept": False, "drops": []}),
    }  # fmt: skip


def busy(here: World) -> None:
    """A restore is asked for while another one runs."""
    planned = here.answers["POST /api/backup/restore"]
    refusal = {
        "status_code": 409,
        "success": False,
        "code": "restore_running",
        "error": "a restore is under way",
        "hint": "wait for it to end",
    }
    here.answers["POST /api/backup/restore"] = lambda query: dict(refusal) if "async" in query else planned(query)
    here.answers["GET /api/operations"] = lambda _: {"success": True, "operations": [world.RUNNING]}


def begun(here: World) -> None:
    planned = here.answers["POST /api/backup/restore"]
    running = {"success": True, "operation": {**world.RUNNING, "id": "own"}}
    here.answers["POST /api/backup/restore"] = lambda query: running if "async" in query else planned(query)
    here.answers["GET /api/operations/own"] = lambda _: running


def deleted_last(here: World) -> None:
    here.answers["DELETE"] = lambda _: {
        "success": True, "name": DAMAGED, "dryRun": True,
        "plan": {
            "freesBytes": 4_010_000, "goodLeft": 0, "protectedBy": "last-good",
            "window": {"before": here.health["window"], "after": None},
            "lost": [
                {"generation": world.PRESENT, "lastSequence": {"before": world.EVENTS, "after": 36_000}},
                {"generation": world.EARLIER, "lastSequence": {"before": 36_031, "after": 36_000}},
            ],
        },
    }  # fmt: skip


def deleted(here: World) -> None:
    here.answers["DELETE"] = lambda _: {
        "success": True, "name": DAMAGED, "dryRun": True,
        "plan": {"freesBytes": 4_010_000, "goodLeft": 36, "protectedBy": None, "lost": [],
                 "window": {"before": here.health["window"], "after": here.health["window"]}},
    }  # fmt: skip


def shown(here: World) -> None:
    here.answers[f"GET /api/backup/{here.backups[36]['name']}"] = lambda _: {
        "success": True, "backup": here.backups[36], "manifest": {"files": list(range(23))},
    }  # fmt: skip


def with_failures(here: World) -> None:
    """A tried restore failed, and so did operations, each in another way."""
    damage = f"the backup {DAMAGED} is damaged at byte 1,802,240: the member does not have its digest"
    failed = {**world.REHEARSALS[0], "ok": False, "problem": {"code": "archive_damaged", "error": damage, "hint": ""}}
    here.health["rehearsal"] = {**failed, "next": text_of(NOW + timedelta(days=5))}
    here.health["jobs"]["autoBackup"]["lastOutcome"] = "failed: no space left on device"
    problem(here, "rehearsal_failed", f"the restore that was tried last failed: {damage}")
    rehearsals = [failed, *world.REHEARSALS[1:]]
    here.answers["GET /api/backup/rehearsals"] = lambda _: {"success": True, "rehearsals": rehearsals}
    ended = [
        world.operation(0, "rehearse", state="failed", error={"code": "archive_damaged", "error": damage}),
        world.operation(1, "restore", state="cancelled", startedBy="night shift"),
        world.operation(2, "create", state="interrupted", error={"code": "interrupted", "error": "the service ended"}),
    ]
    here.answers["GET /api/operations"] = lambda query: {
        "success": True, "operations": [] if "state" in query else [*ended, *world.operations(query)],
    }  # fmt: skip


def without_operations(here: World) -> None:
    without_backups(here)
    here.answers["GET /api/operations"] = lambda _: {"success": True, "operations": []}
    here.answers["GET /api/backup/rehearsals"] = lambda _: {"success": True, "rehearsals": []}


def without_tokens(here: World) -> None:
    here.answers["GET /api/tokens"] = lambda _: {"success": True, "tokens": []}


def with_made_token(here: World) -> None:
    here.answers["POST /api/tokens"] = lambda _: {"success": True, "token": f"ev_4fQ2mZ8k_{'9rTz' * 9}"}


def closed(here: World) -> None:
    here.answers = {
        "GET /api/health": lambda _: {"success": True, "status": "ok"},
        "POST /api/session": lambda _: {
            "status_code": 401, "success": False, "code": "token_wrong",
            "error": "the token is malformed: its checksum does not match", "hint": "copy it whole, 47 characters",
        },
        "DELETE": lambda _: {"success": True},
    }  # fmt: skip


def read_only(here: World) -> None:
    answers, health = here.answers, here.health

    def signed_in_now(_: object) -> dict[str, Any]:
        here.answers.update(answers)
        here.answers["GET /api/health"] = lambda _: health
        return {"success": True, "key": "k", "name": "auditor", "scopes": ["read"]}

    here.answers = {
        "GET /api/health": lambda _: {"success": True, "status": "ok"},
        "POST /api/session": signed_in_now,
    }


def without_jobs(here: World) -> None:
    here.health["jobQueue"].update(workers=0, slots=0, waiting=0, running=0, dead=0, states={}, oldestWaiting=None)
    for name, member in (("", "jobs"), ("/types", "types"), ("/schedules", "schedules")):
        here.answers[f"GET /api/jobs{name}"] = lambda _, member=member: {"success": True, member: [], "next": None}


def refusing_jobs(here: World, status: int, code: str, error: str, hint: str) -> None:
    here.health["jobQueue"] = None
    for name in ("", "/types", "/schedules"):
        here.answers[f"GET /api/jobs{name}"] = lambda _: {
            "status_code": status, "success": False, "code": code, "error": error, "hint": hint,
        }  # fmt: skip


def with_jobs_off(here: World) -> None:
    refusing_jobs(here, 409, "jobs_disabled", "jobs are switched off", "set JOBS_ENABLED=true, and restart the service")


def without_dispatcher(here: World) -> None:
    error = "the dispatcher of jobs does not answer"
    refusing_jobs(here, 503, "jobs_unavailable", error, "it is started again by itself; try again in a few seconds")
    problem(here, "jobs_unavailable", error)


def with_held_jobs(here: World) -> None:
    held = [{**each, "state": "held"} for each in world_jobs.JOBS[:5]]
    here.health["jobQueue"].update(held=5, waiting=0, running=0, oldestWaiting=None, states={"held": 5, "dead": 3})
    here.answers["GET /api/jobs"] = lambda _: {"success": True, "jobs": held, "next": None}
    problem(
        here,
        "jobs_held",
        "5 jobs are held: jobs_db was lost, and a copy in BACKUP_DIR brought them back",
    )


YESTERDAY = text_of(NOW - timedelta(days=1))


def with_kafka(here: World) -> None:
    here.health["kafka"] = {
        "configured": True, "connected": True, "consumes": True, "topic": "events", "pattern": None,
        "topics": [{"name": "events", "exists": True, "partitions": 3, "lag": 212, "error": None}],
        "lag": 212, "consumed": 38_211, "deadLetters": 3, "lastError": None, "stoppedPartitions": [2],
        "quarantine": {"count": 2, "bytes": 900, "oldest": YESTERDAY, "dropped": 0},
        "partitions": [
            {"topic": "events", "partition": number, "state": "stopped" if number == 2 else "consuming",
             "next": 10_412 + 911 * number,
             "lag": 212 if number == 2 else 0, "lastMessageAt": text_of(NOW - timedelta(seconds=7 + 400 * number))}
            for number in range(3)
        ],
    }  # fmt: skip
    here.health["problems"] = [{
        "code": "kafka_messages_gone", "message": "offsets 10,412 to 10,466 are gone: 55 messages are lost",
        "hint": "accept the loss", "about": {"kind": "partition", "name": "events/2"}, "since": text_of(NOW),
        "acceptable": True,
    }]  # fmt: skip
    here.answers["GET /api/kafka/quarantine"] = lambda _: {
        "success": True, "next": None, "count": 2, "bytes": 900, "dropped": 0, "oldest": YESTERDAY,
        "quarantine": [
            {"id": f"events/0@99{number}", "topic": "events", "partition": 0, "offset": 990 + number, "size": 450,
             "at": text_of(NOW - timedelta(days=1, seconds=-number)), "timestamp": None, "reference": None,
             "reason": "the message is not JSON: JSON is malformed: invalid character (byte 0)"}
            for number in (3, 2)
        ],
    }  # fmt: skip


def with_silent_broker(here: World) -> None:
    """Kafka is set up, and its broker has not answered yet: little is known."""
    with_kafka(here)
    kafka = here.health["kafka"]
    kafka.update(connected=False, lag=None, stoppedPartitions=[], deadLetters=0, consumed=0)
    kafka["lastError"] = {"message": "kafka-1:9092 does not answer: connection refused", "at": text_of(NOW)}
    kafka["quarantine"].update(count=0, bytes=0, oldest=None)
    kafka["partitions"] = [
        {"topic": "events", "partition": 0, "state": "waiting", "next": None, "lag": None, "lastMessageAt": None}
    ]
    here.answers["GET /api/kafka/quarantine"] = lambda _: {
        "success": True, "next": None, "count": 0, "bytes": 0, "dropped": 0, "oldest": None, "quarantine": [],
    }  # fmt: skip
    problem(here, "kafka_unreachable", "no broker of kafka-1:9092 answers")


def with_message(here: World) -> None:
    with_kafka(here)
    listed = here.answers["GET /api/kafka/quarantine"]
    more = {"key": {"text": "orders/4711", "base64": None}, "headers": [{"name": "trace", "value": None}],
            "value": {"text": "order 4711 was paid", "base64": None}}  # fmt: skip
    here.answers["GET /api/kafka/quarantine"] = lambda query: (
        {"success": True, "message": {**listed({})["quarantine"][0], **more}} if "id" in query else listed(query)
    )


def with_topics(here: World) -> None:
    """Three topics, of which one is missing, a backlog, and events that wait to be published."""
    with_kafka(here)
    kafka = here.health["kafka"]
    kafka["partitions"] += [{**kafka["partitions"][0], "topic": "orders", "lag": 940_184}]
    kafka["topics"] += [
        {"name": "orders", "exists": True, "partitions": 1, "lag": 940_184, "error": None},
        {"name": "audit", "exists": False, "partitions": 0, "lag": None, "error": "the topic audit is gone"},
    ]
    kafka.update(topic=None, lag=940_396, messagesPerSecond=41_020, remainingSeconds=22.9)
    kafka["publish"] = {
        "topic": "published", "backlog": 1204, "oldestWaiting": text_of(NOW - timedelta(minutes=3)),
        "secondsWaiting": 180.0, "publishedSequence": 41_900, "published": 812, "withoutData": 2, "notPublished": 1,
        "lastError": None,
    }  # fmt: skip
    here.health["problems"] += [
        {"code": code, "message": message, "hint": "look whether the brokers answer", "since": text_of(NOW),
         "about": {"kind": "topic", "name": "published"}, "acceptable": False}
        for code, message in (
            ("kafka_publish_late", "events have been waiting for 180 s to be published to published"),
            ("kafka_event_too_large", "2 events are too large for the topic published: a, b"),
        )
    ]  # fmt: skip


def with_replay(here: World) -> None:
    """A restore to a moment may read Kafka again from there on, and Kafka has not all of it any more."""
    begun(here)
    running = here.answers["POST /api/backup/restore"]
    planned = {"kafka": {"again": False, "messages": 1284, "replayable": False}}
    here.answers["POST /api/backup/restore"] = lambda query: (
        running(query) if "async" in query else {"success": True, "dryRun": True, "plan": world.plan(**planned)}
    )


def press(*names: str | re.Pattern[str]) -> Callable[[Any], None]:
    def reach(page: Any) -> None:
        for name in names:
            page.get_by_role("button", name=name).first.click()

    return reach


def planned(page: Any) -> None:
    page.get_by_role("button", name="Go back…").wait_for()


def asked(page: Any) -> None:
    page.get_by_role("button", name="Go back…").click()
    page.get_by_role("dialog").wait_for()


def confirmed(page: Any) -> None:
    asked(page)
    page.get_by_role("dialog").get_by_role("button", name=re.compile("go back$")).click()
    page.get_by_role("dialog").get_by_role("progressbar").wait_for()


def replay_chosen(page: Any) -> None:
    asked(page)
    page.get_by_role("dialog").get_by_label("Read again what came from Kafka since then").check()


def refused(page: Any) -> None:
    page.get_by_role("alert").wait_for()


def menu(page: Any) -> None:
    page.get_by_label(re.compile("^More for")).first.click()


def delete(page: Any) -> None:
    menu(page)
    page.get_by_role("button", name="Delete…").click()
    page.get_by_role("textbox").wait_for()


def set_aside(page: Any) -> None:
    page.get_by_text(re.compile("Set aside by earlier restores")).click()


def token_made(page: Any) -> None:
    page.get_by_role("button", name="Make a token…").click()
    page.get_by_label("Name").fill("laptop")
    page.get_by_role("button", name="Make it").click()
    page.get_by_role("dialog").wait_for(state="detached")


def find(words: str) -> Callable[[Any], None]:
    return lambda page: page.get_by_label("Find a setting").fill(words)


def signed_in(page: Any) -> None:
    page.get_by_label("Token").fill("ev_read")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_text("which may only read", exact=False).wait_for()


def wrong_token(page: Any) -> None:
    page.get_by_label("Token").fill("ev_nonsense")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("alert").wait_for()


def away(page: Any) -> None:
    page.get_by_text("Your data is safe").wait_for()
    page.unroute_all()
    page.route("**/api/**", lambda route: route.abort())
    page.get_by_role("heading", name="EventVault does not answer.").wait_for()


STATES = [
    State("overview", words="Your data is safe."),
    State("set-aside", reach=set_aside, words="in backups and the journal"),
    State("plan", HOUR, reach=planned, words="are set aside"),
    State("confirm", HOUR, reach=asked, words="brings all of it back"),
    State("no-undo", HOUR, without_undo, asked, "There is no undo for this"),
    State("restoring-dialog", HOUR, begun, confirmed, "of about 5 s"),
    State("busy", HOUR, busy, confirmed, "Now: restore by night shift"),
    State("gap", IN_GAP, with_gap, refused, "Go to the nearest moment"),
    State("restoring", "#/overview", restoring, words="Going back in time."),
    State("restored", "#/overview", restored, words="What was there before is stored"),
    State("starting", "#/overview", starting, words="Starting: events are being restored."),
    State("at-risk", "#/overview", at_risk, words="New events are at risk."),
    State("backups-away", "#/overview", backups_away, words="The backups cannot be reached."),
    State("disk-soon", "#/overview", disk_full_soon, words="Your data is safe, for now."),
    State("disk-full", "#/overview", disk_full, words="New events are refused"),
    State("disk-inodes", "#/overview", without_inodes, words="nothing can be written now"),
    State("disk-read-only", "#/overview", disk_read_only, words="A disk cannot be read or written"),
    State("backups-not-mounted", "#/overview", backups_not_mounted, words="The backup folder is not the one of before"),
    State("damaged", "#/overview", damaged, words="A backup is damaged"),
    State("stuck", "#/overview", stuck, words="The event store does not answer."),
    State("away", reach=away, words="EventVault does not answer."),
    State("first-event", "#/overview", without_events, words="Ready for the first event."),
    State("no-backup", "#/overview", without_backups, words="there is no backup to carry away yet"),
    State("token", "#/overview", closed, lambda page: page.get_by_label("Token").wait_for(), "asks for a token"),
    State("token-wrong", "#/overview", closed, wrong_token, "its checksum does not match"),
    State("token-read", "#/backups", read_only, signed_in, "which may only read"),
    State("backups", "#/backups", words="37 archives"),
    State("backups-empty", "#/backups", without_backups, words="No backup yet"),
    State("backups-menu", "#/backups", reach=menu, words="Try a restore"),
    State("backups-show", "#/backups?show=pinned", shown, press("before the migration"), "23 files"),
    State("backups-create", "#/backups", reach=press("Back up now"), words="Posts and reads go on meanwhile."),
    State("backups-delete", "#/backups", deleted, delete, "good ones stay"),
    State("backups-delete-last", "#/backups", deleted_last, delete, "This is the last good backup."),
    State("backups-damaged", "#/backups?show=damaged", damaged, words="has another digest"),
    State("events", "#/events", words="live"),
    State("events-none", "#/events?type=nothing", words="No event matches"),
    State("events-past", f"#/events?asOf={text_of(CLEANUP)}", words="You look at"),
    State("events-one", "#/events", reach=press(re.compile(r"^order\.")), words="Go to just before it"),
    State("events-compare", "#/events?compare=1", words="Compare two moments"),
    State("operations", "#/operations", words="Tried restores"),
    State("operations-running", "#/operations", restoring, words="412 MB/s"),
    State("operations-failed", "#/operations", with_failures, words="the member does not have its digest"),
    State("operations-none", "#/operations", without_operations, words="None was tried yet."),
    State("jobs", "#/jobs", words="page 41 of 100"),
    State("jobs-dead", "#/jobs?show=dead", words="shop/web has deleted it"),
    State("jobs-one", "#/jobs?show=dead", reach=press(re.compile(r"^invoice\.send$")), words="looking for customer"),
    State("jobs-retry", "#/jobs?show=dead", reach=press("Retry these 3…"), words="Each gets all its tries again."),
    State("jobs-cancel", "#/jobs", reach=press(re.compile("^Cancel ")), words="One that waits ends at once."),
    State("jobs-held", "#/jobs", with_held_jobs, words="5 jobs wait for you."),
    State("jobs-release", "#/jobs", with_held_jobs, press("Let them go on…"), "runs again"),
    State("jobs-none", "#/jobs", without_jobs, words="No job is unfinished"),
    State("jobs-off", "#/jobs", with_jobs_off, words="Jobs are switched off"),
    State("jobs-away", "#/jobs", without_dispatcher, words="The dispatcher of jobs does not answer."),
    State("kafka", "#/kafka", with_kafka, words="55 messages are lost"),
    State("kafka-message", "#/kafka", with_message, press(re.compile(r"^events\/0@993$")), "order 4711 was paid"),
    State("kafka-accept", "#/kafka", with_kafka, press("Go on without them…"), "are lost for good"),
    State("kafka-away", "#/kafka", with_silent_broker, words="kafka-1:9092 does not answer"),
    State("kafka-replay", "#/kafka", with_kafka, press("Replay these 2…"), "Nothing is stored twice."),
    State("kafka-drop", "#/kafka", with_kafka, press("Drop events/0@993…"), "It leaves EventVault for good."),
    State("kafka-needs-you", "#/overview", with_silent_broker, words="One thing needs you: Kafka does not answer."),
    State("kafka-topics", "#/kafka", with_topics, words="1,204"),
    State("kafka-restore", HOUR, with_replay, replay_chosen, "Others that came after it are gone from Kafka."),
    State("kafka-unused", "#/kafka", words="Kafka is not used"),
    State("settings", "#/settings", words="Tokens"),
    State("settings-open", "#/settings", without_tokens, words="None was made"),
    State("settings-find", "#/settings", reach=find("rehearse"), words="REHEARSAL_CRON"),
    State("settings-find-none", "#/settings", reach=find("nonsense"), words="No setting has these words"),
    State("settings-token", "#/settings", reach=press("Make a token…"), words="Days until it expires"),
    State("settings-first-token", "#/settings", without_tokens, press("Make a token…"), "every request needs one"),
    State("settings-made", "#/settings", with_made_token, token_made, "This token is not shown again"),
    State("settings-revoke", "#/settings", reach=press("Revoke…"), words="There is no undo"),
]  # fmt: skip
