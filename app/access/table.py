"""The table of all routes, with the scopes that each needs. A route without an entry needs `admin`.

`docs/access.md` shows it, and a test fails on a route that is missing here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eventvault.scopes import ADMIN, BACKUP, METRICS, READ, WRITE


@dataclass(frozen=True)
class Need:
    """What a route needs: one of these scopes.

    is_public: no scope; a token is ignored. is_optional: it answers less without a token. reads: members of the body
    with which the request only reads, so that `read` is enough. opens_by_cookie: the cookie of a browser's session is
    enough, as a link or an EventSource sends no header.
    """

    scopes: frozenset[str] = frozenset()
    is_public: bool = False
    is_optional: bool = False
    opens_by_cookie: bool = False
    reads: tuple[tuple[str, Any], ...] = ()

    def only_reads(self, body: Mapping[str, Any]) -> bool:
        """Return whether a body asks only to read. The first member of `reads` that the body has decides."""
        for name, value in self.reads:
            if name in body:
                return body[name] is value if isinstance(value, bool) else bool(body[name] == value)
        return False


def _any_of(*scopes: str) -> Need:
    return Need(frozenset(scopes))


PUBLIC = Need(is_public=True)
STATE_WITHOUT_TOKEN = Need(is_optional=True)
ANY_TOKEN = _any_of(READ, WRITE, BACKUP, METRICS, ADMIN)
_READ, _WRITE, _ADMIN, _METRICS = _any_of(READ), _any_of(WRITE), _any_of(ADMIN), _any_of(METRICS)
_BACKUP, _READ_OR_BACKUP = _any_of(BACKUP), _any_of(READ, BACKUP)
_FOLLOW = Need(frozenset({READ}), opens_by_cookie=True)
_FOLLOW_OR_BACKUP = Need(frozenset({READ, BACKUP}), opens_by_cookie=True)

NEEDS: dict[str, Need] = {
    "GET /": PUBLIC,
    "GET /ui/<version>/<name>": PUBLIC,
    "GET /docs": PUBLIC,
    "GET /docs/": PUBLIC,
    "GET /docs/api": PUBLIC,
    "GET /docs/search.json": PUBLIC,
    "GET /docs/<name>": PUBLIC,
    "GET /docs/pictures/<filename>": PUBLIC,
    "GET /docs/static/<filename>": PUBLIC,
    "GET /openapi.json": PUBLIC,
    "GET /api/health/live": PUBLIC,
    "GET /api/health/ready": PUBLIC,
    "GET /api/health": STATE_WITHOUT_TOKEN,
    "GET /metrics": _METRICS,
    "GET /api/settings": _READ,
    "GET /api/events": _READ,
    "GET /api/events/<event_id>": _READ,
    "GET /api/events/export": _FOLLOW,
    "POST /api/events/export": _READ,
    "GET /api/events/stream": _FOLLOW,
    "GET /api/events/histogram": _READ,
    "GET /api/events/types": _READ,
    "POST /api/events": _WRITE,
    "GET /api/operations": _READ_OR_BACKUP,
    "GET /api/operations/<operation_id>": _READ_OR_BACKUP,
    "GET /api/operations/<operation_id>/file": _FOLLOW_OR_BACKUP,
    "GET /api/operations/<operation_id>/stream": _FOLLOW_OR_BACKUP,
    "DELETE /api/operations/<operation_id>": _ADMIN,
    "GET /api/changes/stream": _FOLLOW_OR_BACKUP,
    "GET /api/backup/list": _READ_OR_BACKUP,
    "GET /api/backup/export-metadata": _READ_OR_BACKUP,
    "GET /api/backup/<name>": _READ_OR_BACKUP,
    "GET /api/backup/<name>/download": _FOLLOW_OR_BACKUP,
    "GET /api/backup/rehearsals": _READ_OR_BACKUP,
    "GET /api/backup/timeline": _READ,
    "GET /api/backup/diff": _READ,
    "GET /api/backup/undo": _READ,
    "POST /api/backup/create": _BACKUP,
    "POST /api/backup/<name>/verify": _BACKUP,
    "POST /api/backup/rehearse": _BACKUP,
    "POST /api/backup/<name>/rehearse": _BACKUP,
    "PUT /api/backup/<name>/pin": _BACKUP,
    "DELETE /api/backup/<name>/pin": _BACKUP,
    "POST /api/backup/restore": Need(frozenset({ADMIN}), reads=(("into", "export"), ("dryRun", True))),
    "POST /api/backup/undo": _ADMIN,
    "POST /api/backup/upload": _ADMIN,
    "POST /api/backup/prune": _ADMIN,
    "DELETE /api/backup/<name>": _ADMIN,
    "POST /api/jobs": _any_of(READ, WRITE, BACKUP),
    "GET /api/jobs": _READ,
    "GET /api/jobs/types": _READ,
    "GET /api/jobs/<job_id>": _READ,
    "POST /api/jobs/cancel": _ADMIN,
    "POST /api/jobs/retry": _ADMIN,
    "POST /api/jobs/pause": _ADMIN,
    "POST /api/jobs/resume": _ADMIN,
    "GET /api/jobs/schedules": _READ,
    "GET /api/jobs/schedules/<name>": _READ,
    "PUT /api/jobs/schedules/<name>": _ADMIN,
    "DELETE /api/jobs/schedules/<name>": _ADMIN,
    "POST /api/kafka/partitions/<partition>/accept-loss": _ADMIN,
    "POST /api/kafka/partitions/<topic>/<partition>/accept-loss": _ADMIN,
    "GET /api/kafka/quarantine": _READ,
    "POST /api/kafka/quarantine": _WRITE,
    "DELETE /api/kafka/quarantine": _ADMIN,
    "POST /api/problems/<code>/accept": _ADMIN,
    "POST /api/notify/test": _ADMIN,
    "GET /api/audit": _ADMIN,
    "GET /api/tokens": _ADMIN,
    "POST /api/tokens": _ADMIN,
    "DELETE /api/tokens/<token_id>": _ADMIN,
    "POST /api/session": PUBLIC,
    "DELETE /api/session": ANY_TOKEN,
}
"""Method and route → what a request needs. HEAD needs the same as GET. For OPTIONS any token is enough.

To submit a job, a token needs a scope of this table and the one that the type of the job names.
"""

_PARAMETER = re.compile(r"<(?:[^:<>]*:)?(\w+)>")


def name_of(method: str, rule: str) -> str:
    """Return the key in NEEDS of a method and a rule of Flask: `GET /api/backup/<name>`, without converters."""
    plain = _PARAMETER.sub(r"<\1>", rule)
    return f"{'GET' if method == 'HEAD' else method} {plain}"


def need_of(method: str, rule: str) -> Need:
    if method != "OPTIONS":
        return NEEDS.get(name_of(method, rule), _ADMIN)
    path = name_of("", rule)
    return ANY_TOKEN if any(name.endswith(path) for name in NEEDS) else _ADMIN
