"""Jobs of the made-up installation, as the API describes them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from tests.browser.moments import NOW, text_of

QUEUE = {
    "workers": 2, "slots": 8, "waiting": 3, "running": 2, "dead": 3, "held": 0,
    "oldestWaiting": text_of(NOW - timedelta(seconds=40)), "refusedReports": 0, "broker": False,
    "states": {"pending": 3, "running": 2, "dead": 3, "done": 18_204, "cancelled": 1},
}  # fmt: skip

UNKNOWN_CUSTOMER = {"code": "failed", "message": "there is no customer 4711: shop/web has deleted it"}
KILLED = {"code": "timeout", "message": "the attempt took longer than 300 s, and was killed"}


def job(number: int, kind: str, state: str, **more: Any) -> dict[str, Any]:
    created = NOW - timedelta(minutes=2 + 7 * number)
    has_ended = state in ("dead", "done", "cancelled")
    return {
        "id": f"01k{0x4F0C2A9B1D3E5F67 - number:016x}", "type": kind, "state": state, "createdAt": text_of(created),
        "runAt": text_of(created), "endedAt": text_of(created + timedelta(seconds=61)) if has_ended else None,
        "attempt": 3 if state == "dead" else 1, "tries": 3 if state == "dead" else 0, "maxAttempts": 3,
        "timeout": 300.0, "priority": 0, "key": None, "unique": None, "origin": "api", "startedBy": "shop",
        "schedule": None, "cancelRequested": False, "progress": None, "error": None, **more,
    }  # fmt: skip


JOBS = [
    job(0, "invoice.send", "pending", attempt=0, runAt=text_of(NOW + timedelta(hours=2))),
    job(1, "report.monthly", "running", progress={"fraction": 0.41, "text": "page 41 of 100"}, startedBy="night shift"),
    job(2, "report.monthly", "running", cancelRequested=True, attempt=2, tries=1),
    job(3, "invoice.send", "pending", attempt=0),
    job(4, "invoice.send", "pending", attempt=1, tries=1, error=KILLED),
    *(job(5 + number, "invoice.send", "dead", error=UNKNOWN_CUSTOMER) for number in range(2)),
    job(7, "report.monthly", "dead", error=KILLED),
    job(8, "invoice.send", "cancelled"),
    *(job(9 + number, "invoice.send", "done", startedBy="schedule") for number in range(3)),
]

TYPES = [
    {"type": kind, "scope": scope, "timeout": 300.0, "maxAttempts": 3, "workers": workers, "paused": paused,
     "schema": None}
    for kind, scope, workers, paused in (
        ("invoice.send", "write", 2, False),
        ("report.monthly", "write", 2, True),
        ("stock.recount", "admin", 0, False),
    )
]  # fmt: skip

SCHEDULES = [
    {"name": name, "type": kind, "cron": cron, "timeZone": "Europe/Berlin", "payload": {}, "overlap": False,
     "catchUp": 3600.0, "paused": paused, "inCode": in_code,
     "next": None if paused else text_of(NOW + timedelta(hours=6)),
     "last": last, "lastJob": None if last is None else JOBS[7]["id"], "skipped": skipped}
    for name, kind, cron, paused, in_code, last, skipped in (
        ("report.monthly", "report.monthly", "0 4 1 * *", False, True, text_of(NOW - timedelta(days=27)), 0),
        ("recount", "stock.recount", "30 2 * * 1-5", True, False, None, 2),
    )
]  # fmt: skip


def listed(query: Mapping[str, str]) -> dict[str, Any]:
    if "id" in query:
        return {"success": True, "job": whole(query["id"])}
    states = query.get("state", "").split(",")
    return {"success": True, "jobs": [each for each in JOBS if each["state"] in states], "next": None}


def whole(job_id: str) -> dict[str, Any]:
    """One job with all that is known of it: three attempts, of which two printed something."""
    found = next(each for each in JOBS if each["id"] == job_id)
    began = NOW - timedelta(minutes=40)
    attempts = [
        {"number": number, "session": "s1", "host": "worker-2", "sentAt": text_of(began + timedelta(minutes=number)),
         "startedAt": text_of(began + timedelta(minutes=number)), "outcome": "failed",
         "endedAt": text_of(began + timedelta(minutes=number, seconds=1)), "error": UNKNOWN_CUSTOMER,
         "output": "looking for customer 4711\n" if number > 1 else ""}
        for number in (1, 2, 3)
    ]  # fmt: skip
    return {**found, "payload": {"customer": 4711, "month": "2026-10"}, "result": None, "attempts": attempts,
            "earlierAttempts": 2}  # fmt: skip
