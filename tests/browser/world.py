"""A made-up installation for pictures: nine days of a shop, at a moment that stands still.

The page's files come from a real service, and every answer of the API is made from one of the real service, with other
values. So a picture is the same whenever it is made, and a state that takes days, or a full disk, is there at once.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.browser import world_jobs
from tests.browser.moments import NOW, text_of
from tests.service import Service

BEGAN = NOW - timedelta(days=9)
EVENTS = 47_568
PRESENT, EARLIER, OTHER = "9b1c0a7d2e3f4a5b", "86ad05ce70457cf8", "1f0c2a9b1d3e5f67"
TYPES = ("order.created", "order.paid", "order.shipped", "email.sent", "invoice.issued", "stock.adjusted")
CLEANUP = NOW - timedelta(minutes=5)
FLOOD = timedelta(minutes=2)
"""When a script began to cancel what it should not have, and for how long."""

Answer = Callable[[Mapping[str, str]], Any]


def parsed(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def rate(at: datetime) -> float:
    """Events an hour: a shop is busy at noon and in the evening, and least on Thursdays."""
    hour = at.hour + at.minute / 60
    day = 0.55 + 0.45 * abs(math.sin(at.timetuple().tm_yday * 1.7))
    peaks = math.exp(-(((hour - 11) / 2.2) ** 2)) + 1.25 * math.exp(-(((hour - 19) / 1.6) ** 2))
    return 40 + 900 * day * peaks


def counts(start: datetime, step: float, buckets: int) -> list[int]:
    """How many events each bucket has: those of the shop, and two minutes in which a script cancelled 2,898 orders."""
    found = []
    for number in range(buckets):
        at = start + timedelta(seconds=number * step)
        until = at + timedelta(seconds=step)
        of_shop = rate(at) * step / 3600 * (0.6 + 0.8 * abs(math.sin(at.timestamp() / 97)))
        flooded = max(0.0, (min(until, CLEANUP + FLOOD) - max(at, CLEANUP)).total_seconds())
        found.append(round((of_shop + 2898 * flooded / FLOOD.total_seconds()) * (until >= BEGAN and at <= NOW)))
    return found


class World:
    """base: the health of a real service. Change `health`, or an entry of `answers`, before a page is opened."""

    def __init__(self, service: Service) -> None:
        self.base = service.base
        self.health: dict[str, Any] = copy.deepcopy(service.get("/api/health").json())
        self.backups = [backup(number) for number in range(37)]
        self._fill_health()
        self.answers: dict[str, Answer] = {
            "GET /api/health": lambda _: self.health,
            "GET /api/backup/list": lambda _: {"success": True, "backups": self.backups, "next": None},
            "GET /api/backup/timeline": lambda _: self.timeline(),
            "GET /api/backup/undo": lambda _: {"success": True, "undo": [PREVIOUS]},
            "GET /api/backup/rehearsals": lambda _: {"success": True, "rehearsals": REHEARSALS},
            "GET /api/events/histogram": histogram,
            "GET /api/events/types": lambda _: {
                "success": True,
                "types": [{"type": each, "events": 900, "last": 1} for each in TYPES],
                "counted": 5400,
                "complete": True,
            },
            "GET /api/events": lambda query: events_page(query),
            "GET /api/operations": lambda query: {"success": True, "operations": operations(query)},
            "GET /api/settings": lambda _: service.get("/api/settings").json(),
            "GET /api/tokens": lambda _: {"success": True, "tokens": TOKENS},
            "GET /api/audit": audit,
            "GET /api/jobs": world_jobs.listed,
            "GET /api/jobs/types": lambda _: {"success": True, "types": world_jobs.TYPES},
            "GET /api/jobs/schedules": lambda _: {"success": True, "schedules": world_jobs.SCHEDULES},
            "POST /api/backup/restore": lambda _: {"success": True, "dryRun": True, "plan": plan()},
        }

    def _fill_health(self) -> None:
        health = self.health
        health.update(status="ok", problems=[])
        health["window"] = {
            "oldest": {"time": text_of(BEGAN), "sequence": 0},
            "newest": {"time": text_of(NOW - timedelta(seconds=4)), "sequence": EVENTS},
        }
        health["store"].update(state="serving", generation=PRESENT, lastSequence=EVENTS, events=EVENTS)
        health["backup"].update(
            available=True,
            count=len(self.backups),
            damagedCount=0,
            latest=self.backups[0],
            oldestVerified=text_of(NOW - timedelta(days=2)),
        )
        health["journal"].update(state="ok", secondsAtRisk=0, intervalMs=1000)
        ran = {"enabled": True, "intervalMs": 3_600_000, "cron": None, "timeZone": "UTC"}
        health["jobs"]["autoBackup"].update(
            ran,
            nextRun=text_of(NOW + timedelta(minutes=12)),
            lastRun=self.backups[0]["created"],
            lastOutcome=self.backups[0]["name"],
        )
        health["jobs"]["scrub"].update(
            enabled=True,
            intervalMs=21_600_000,
            nextRun=text_of(NOW + timedelta(hours=2)),
            lastRun=text_of(NOW - timedelta(minutes=15)),
            lastOutcome=f"{self.backups[36]['name']} is good",
        )
        health["jobs"]["rehearsal"].update(enabled=True, cron="0 3 * * 0")
        health["jobs"]["restore"] = {"running": False}
        health["disk"] = {
            "backups": {"free": 72_600_000_000, "total": 2**37, "daysLeft": 3650, "archives": 132_000_000},
            "storage": {"free": 72_600_000_000, "total": 2**37, "daysLeft": 3650},
            "same": True,
        }
        health["rehearsal"] = {**REHEARSALS[0], "next": text_of(NOW + timedelta(days=5))}
        health["lastRestore"] = None
        health["jobQueue"] = copy.deepcopy(world_jobs.QUEUE)

    def timeline(self) -> dict[str, Any]:
        window = self.health["window"]
        common = {"parent": None, "forkTime": None, "kept": None, "keptSequence": None, "window": window}
        return {
            "success": True,
            "window": window,
            "generation": PRESENT,
            "generations": [
                {**common, "id": OTHER, "at": text_of(BEGAN), "present": False, "inLineage": True,
                 "lastSequence": 21_169, "lastShared": 18_000},
                {**common, "id": EARLIER, "at": text_of(NOW - timedelta(days=4, hours=2)), "present": False,
                 "inLineage": True, "lastSequence": 36_031, "lastShared": 36_000, "parent": OTHER,
                 "forkTime": text_of(NOW - timedelta(days=4, hours=5))},
                {**common, "id": PRESENT, "at": text_of(NOW - timedelta(days=1, hours=22)), "present": True,
                 "inLineage": True, "lastSequence": EVENTS, "lastShared": EVENTS, "parent": EARLIER,
                 "forkTime": text_of(NOW - timedelta(days=1, hours=23, minutes=30))},
            ],
            "gaps": [],
            "bucketSeconds": 1800,
            "marks": [
                {"from": each["created"], "to": each["created"], "count": 1, "newest": each["name"],
                 "pinned": int(each["pinned"]), "damaged": int(bool(each["problem"]))}
                for each in reversed(self.backups)
            ],
        }  # fmt: skip

    def install(self, page: Any) -> None:
        """Let the page see this installation, at its time."""
        page.clock.set_fixed_time(NOW)
        page.route("**/api/**", self._answer)

    def _answer(self, route: Any) -> None:
        address = urlsplit(route.request.url)
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        if route.request.method == "DELETE" or "dryRun" in query:
            name = "DELETE"
        else:
            name = f"{route.request.method} {address.path}"
        found = self.answers.get(name) or self.answers.get(f"{route.request.method} *")
        if address.path.endswith("/stream"):
            route.fulfill(content_type="text/event-stream", body="retry: 600000\n\n")
            return
        if found is None:
            route.fulfill(
                status=404, json={"success": False, "code": "not_found", "error": f"{name} is not in this world"}
            )
            return
        body = found(query)
        status = body.pop("status_code", 200) if isinstance(body, dict) else 200
        headers = {"Date": format_datetime(NOW, usegmt=True), "Content-Type": "application/json"}
        route.fulfill(status=status, headers=headers, body=json.dumps(body))


def backup(number: int) -> dict[str, Any]:
    """One of 37, newest first: an hourly one, and the last one, which is pinned."""
    is_pinned = number == 36
    created = BEGAN + timedelta(days=2, hours=3) if is_pinned else NOW - timedelta(minutes=48 + 61 * number)
    name = f"backup_{created:%Y-%m-%d_%H%M%S}{'_before-the-migration' if is_pinned else ''}.tar.gz"
    return {
        "name": name, "path": f"/srv/eventvault/backups/{name}", "size": 4_010_000 - 9000 * number,
        "sizeMB": "3.82", "created": text_of(created), "label": "before the migration" if is_pinned else None,
        "events": EVENTS - 3100 - 240 * number, "sequence": EVENTS - 3100 - 240 * number, "generation": PRESENT,
        "origin": "created", "trigger": "request" if is_pinned else "schedule", "verified": text_of(created),
        "pinned": is_pinned, "pin": {"reason": "audit 2026", "until": None} if is_pinned else None,
        "keptBy": ["pinned"] if is_pinned else ["newest"], "digest": "b3:" + "5f" * 16, "sha256": None, "proven": True,
        "checked": "digests", "rehearsal": None, "problem": None,
    }  # fmt: skip


REHEARSALS = [
    {"ok": True, "at": text_of(NOW - timedelta(days=2 + 7 * week)), "backup": "newest", "rtoSeconds": 1.1 + week / 10,
     "rto": {"fetch": 0.1, "unpack": 0.2, "verify": 0.6, "open": 0.2}, "rpoSeconds": 0.4, "rpoEvents": 0,
     "compared": 41_592 - 4000 * week, "differing": 0, "problem": None}
    for week in range(3)
]  # fmt: skip

PREVIOUS = {"name": "previous-1", "generation": EARLIER, "events": 47_568, "size": 6_800_000, "undone": False}

TOKENS = [
    {"id": each_id, "name": name, "scope": scope, "expires": None if days is None else text_of(NOW + timedelta(days)),
     "expired": days is not None and days < 0, "lastUsed": None if used is None else text_of(NOW - used)}
    for each_id, name, scope, days, used in (
        ("4fQ2mZ8k", "admin", "admin", None, timedelta(seconds=3)),
        ("Tn81bLqA", "nightly cron", "backup", 80, timedelta(hours=19)),
        ("zR0dY5wE", "shop", "write", None, timedelta(seconds=4)),
        ("hV3xK9sP", "auditor", "read", -2, timedelta(days=3)),
        ("c7WmJ2nB", "board", "metrics", None, None),
    )
]  # fmt: skip


def histogram(query: Mapping[str, str]) -> dict[str, Any]:
    start, end, buckets = parsed(query["from"]), parsed(query["to"]), int(query["buckets"])
    step = (end - start).total_seconds() / buckets
    return {"success": True, "from": query["from"], "to": query["to"], "bucketSeconds": step, "exact": True,
            "before": 0, "generation": PRESENT, "counts": counts(start, step, buckets)}  # fmt: skip


def event(sequence: int) -> dict[str, Any]:
    behind = EVENTS - sequence
    is_mistake = behind > 12
    number = 46_212 - behind * 7 % 1900
    return {
        "specversion": "1.0", "id": f"{number}-{sequence}", "source": "shop/web",
        "type": "order.cancelled" if is_mistake else TYPES[sequence % 6], "subject": f"orders/{number}",
        "data": {"order": number, "reason": "cleanup"} if is_mistake
        else {"order": number, "total": 10 + number % 90 + 0.49, "currency": "EUR"},
        "sequence": sequence,
        "recordedtime": text_of(CLEANUP + FLOOD - timedelta(seconds=behind * 0.04) if is_mistake
                                else NOW - timedelta(seconds=4 + behind * 9)),
    }  # fmt: skip


def events_page(query: Mapping[str, str]) -> dict[str, Any]:
    if query.get("type") == "nothing":
        return {"success": True, "events": [], "next": None, "lastSequence": EVENTS}
    last = EVENTS - 2911 if "asOf" in query else EVENTS
    return {
        "success": True,
        "events": [event(last - number) for number in range(100)],
        "next": "x",
        "lastSequence": last,
    }


def operation(number: int, kind: str, **more: Any) -> dict[str, Any]:
    began = NOW - timedelta(minutes=48 + 61 * number)
    return {
        "id": f"{0x4F0C2A9B1D3E5F67 - number:016x}", "kind": kind, "state": "succeeded", "startedBy": "schedule",
        "startedAt": text_of(began), "endedAt": text_of(began + timedelta(seconds=1.4)), "progress": 1.0, "step": None,
        "bytesDone": 0, "bytesTotal": None, "bytesPerSecond": None, "remainingSeconds": None, "cancellable": False,
        "cancelRequested": False, "result": {"success": True}, "error": None, **more,
    }  # fmt: skip


RUNNING = operation(
    -1, "restore", state="running", startedBy="night shift", startedAt=text_of(NOW - timedelta(seconds=4)),
    endedAt=None, progress=0.62, step="copy", bytesDone=3_100_000_000, bytesTotal=5_000_000_000, bytesPerSecond=412e6,
    remainingSeconds=4.6, cancellable=True, result=None,
)  # fmt: skip


def operations(query: Mapping[str, str]) -> list[dict[str, Any]]:
    if "running" in query.get("state", ""):
        return []
    kinds = [
        "create",
        "create",
        "verify",
        "rehearse",
        "undo",
        "restore",
        "create",
        "upload",
        "create",
        "prune",
        "create",
    ]
    return [
        operation(number, kind, startedBy="night shift" if kind in ("undo", "restore", "upload") else "schedule")
        for number, kind in enumerate(kinds)
    ]


def audit(query: Mapping[str, str]) -> dict[str, Any]:
    deeds: list[tuple[str, str, str, str, dict[str, Any]]] = [
        ("restore", "night shift", "", "done", {"leftBehind": 811}),
        ("undo", "night shift", "", "done", {"leftBehind": 3}),
        ("create", "schedule", "", "done", {}),
        ("delete", "nightly cron", backup(36)["name"], "failed", {"code": "backup_protected"}),
        ("token-create", "admin", "board", "done", {}),
    ]
    lines = [
        {"line": number + 1, "at": text_of(NOW - timedelta(minutes=90 - 7 * number)), "who": who, "action": action,
         "target": target, "state": "ended", "operation": f"op{number}", "result": result, "details": details}
        for number, (action, who, target, result, details) in enumerate(deeds)
    ]  # fmt: skip
    return {"success": True, "lines": lines if "after" in query else lines[-1:], "lastLine": len(lines)}


SET_ASIDE = {"order.cancelled": 2898, "session.started": 5, "email.sent": 3, "order.paid": 3, "stock.adjusted": 2}


def plan(**more: Any) -> dict[str, Any]:
    def at(sequence: int, when: datetime) -> dict[str, Any]:
        return {"sequence": sequence, "type": "order.cancelled", "recordedtime": text_of(when)}

    kept = EVENTS - 2911
    return {
        "generation": PRESENT, "sequence": kept, "time": text_of(CLEANUP - timedelta(seconds=20)),
        "archive": backup(0)["name"], "presentDatabase": False, "segments": ["a", "b", "c"], "bytesToRead": 4_400_000,
        "diskNeeded": 12_500_000, "diskFree": 72_600_000_000, "predictedSeconds": 5.3, "eventsLeftBehind": 2911,
        "firstLeftBehind": at(kept + 1, CLEANUP), "lastLeftBehind": at(EVENTS, NOW - timedelta(seconds=4)),
        "lastKept": at(kept, CLEANUP - timedelta(seconds=36)), "typesComplete": True,
        "types": [{"type": name, "events": events} for name, events in SET_ASIDE.items()],
        "undo": {"kept": True, "drops": []}, **more,
    }  # fmt: skip
