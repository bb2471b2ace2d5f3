"""One table: the method of a port → the request that stands for it, and the reader of its answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from app.cli.remote import answers, errors
from app.cli.remote.answers import Reader
from app.cli.remote.transport import KEY, NDJSON, Request, get, post, with_bytes, with_json
from eventvault import clock
from eventvault.database.values import HistogramQuery, ScanQuery, TypesQuery
from eventvault.errors import (
    BackupNotFound,
    EventVaultError,
    OperationNotFound,
    PartitionNotStopped,
    ProblemNotFound,
    TokenNotFound,
)
from eventvault.events import cursor
from eventvault.events.event import EventDraft, without_filled_time
from eventvault.kafka.values import QuarantineFilter
from eventvault.keyed_request import KeyedRequest
from eventvault.operations.entry import OperationQuery
from eventvault.restore.values import Moment

_PART = re.compile(r"(?!\.+\Z)[^/]+")
"""A text that can be one part of a path. Dots alone cannot, because a client or a proxy resolves them."""


@dataclass(frozen=True)
class RemoteCall:
    """How a method is called over HTTP. request: gets the arguments of the method by their names."""

    request: Callable[..., Request]
    read: Reader


def path_of_backup(name: str, *rest: str) -> str:
    return "/".join(["/api/backup", _in_path(name, BackupNotFound, "backup"), *rest])


def path_of_operation(operation_id: str) -> str:
    return f"/api/operations/{_in_path(operation_id, OperationNotFound, 'operation')}"


def path_of_token(token_id: str) -> str:
    return f"/api/tokens/{_in_path(token_id, TokenNotFound, 'token')}"


def _path_of_topic(topic: str | None) -> str:
    return "" if topic is None else f"{_in_path(topic, PartitionNotStopped, 'topic')}/"


def _in_path(text: str, missing: type[EventVaultError], what: str) -> str:
    """Return a text as one part of a path. Raises `missing` if it cannot be one."""
    if _PART.fullmatch(text) is None:
        raise missing(f"there is no {what} {text!r}", hint="GET /api/backup/list and GET /api/operations list them")
    return quote(text, safe="", errors="surrogateescape")


def _pin(name: str, pinned: bool, reason: str | None, until: int | None) -> Request:
    if not pinned:
        return with_json("DELETE", path_of_backup(name, "pin"))
    return with_json(
        "PUT", path_of_backup(name, "pin"), {"reason": reason, "until": clock.optional_microseconds(until)}
    )


def moment_members(moment: Moment | str) -> dict[str, Any]:
    """Return the members of a body that name an archive or a moment."""
    if isinstance(moment, str):
        return {"backupName": moment}
    members = {
        "backupName": moment.archive,
        "pointInTime": clock.optional_microseconds(moment.instant),
        "sequence": moment.sequence,
        "generation": moment.generation,
    }
    return {name: value for name, value in members.items() if value is not None}


def _restore(target: Moment | str, *, staged: bool, cancel_jobs: bool, replay: bool = False) -> Request:
    apply = {"apply": "restart"} if staged else {}
    cancel = {"cancelJobs": True} if cancel_jobs else {}
    again = {"replay": True} if replay else {}
    return post("/api/backup/restore", {**moment_members(target), **apply, **cancel, **again})


def _rehearse(target: Moment | str | None) -> Request:
    if isinstance(target, str):
        return post(path_of_backup(target, "rehearse"))
    return post("/api/backup/rehearse", {} if target is None else moment_members(target))


def event_filter(query: ScanQuery) -> dict[str, Any]:
    """Return the filter of a part of the past, as `into` and exports take it."""
    members = {
        "type": query.type,
        "subject": query.subject,
        "source": query.source,
        "from": clock.optional_microseconds(query.recorded_from),
        "to": clock.optional_microseconds(query.recorded_to),
        "fromSequence": query.after + 1 if query.after else None,
    }
    return {name: value for name, value in members.items() if value is not None}


ARCHIVE = "archive:"
"""The prefix of an archive's name in a `PastView`, where other views have a generation."""


def past_members(query: ScanQuery) -> dict[str, Any]:
    """Return the members that name the moment of a query, and its filter."""
    wanted = event_filter(query)
    if query.generation is not None and query.generation.startswith(ARCHIVE):
        if query.upto is not None:
            wanted["toSequence"] = query.upto
        return {"backupName": query.generation.removeprefix(ARCHIVE), "filter": wanted}
    return {**moment_members(Moment(sequence=query.upto, generation=query.generation)), "filter": wanted}


def page_of(query: ScanQuery) -> Request:
    """Return the request for a page of the current registry, or of a lineage up to its fork."""

    def position(sequence: int | None) -> str | None:
        if sequence is None or query.generation is None:
            return None if sequence is None else str(sequence)
        return cursor.encode(query.generation, sequence)

    before = query.before
    if query.upto is not None:
        before = query.upto + 1 if before is None else min(before, query.upto + 1)
    return get(
        "/api/events",
        after=position(query.after) if query.after or (query.generation and before is None) else None,
        before=position(before),
        order="newest" if query.newest_first else None,
        limit=query.limit,
        type=query.type,
        subject=query.subject,
        source=query.source,
        from_=clock.optional_microseconds(query.recorded_from),
        to=clock.optional_microseconds(query.recorded_to),
    )


def _append(drafts: Sequence[EventDraft], request: KeyedRequest | None) -> Request:
    """Return the request. The service fills in an omitted `time` itself, so that a repeated event is equal."""
    bodies = (without_filled_time(draft.body) if "time" in draft.filled else draft.body for draft in drafts)
    posted = with_bytes(Request("POST", "/api/events"), b"\n".join(bodies), NDJSON)
    return posted if request is None else posted.with_headers(**{KEY: request.id.hex()})


def _histogram(query: HistogramQuery) -> Request:
    if query.upto is not None:
        raise errors.not_over_http("a histogram up to a sequence")
    return get(
        "/api/events/histogram",
        buckets=query.buckets,
        from_=clock.optional_microseconds(query.recorded_from),
        to=clock.optional_microseconds(query.recorded_to),
        type=query.type,
        generation=query.generation,
    )


def _types(query: TypesQuery) -> Request:
    after = cursor.encode(query.generation, query.after) if query.generation is not None else query.after
    return get("/api/events/types", after=after, upto=query.upto, limit=query.limit)


def _operations(query: OperationQuery) -> Request:
    return get(
        "/api/operations",
        state=",".join(query.states) or None,
        kind=",".join(query.kinds) or None,
        limit=query.limit,
        before=query.before,
    )


def _quarantine(wanted: QuarantineFilter) -> dict[str, Any]:
    return {"topic": wanted.topic, "partition": wanted.partition, "reason": wanted.reason}


def _drop(wanted: QuarantineFilter, count: int | None) -> Request:
    """Return the request to drop one message, or those of a filter. Several ids need several requests."""
    if wanted.ids:
        return with_json("DELETE", "/api/kafka/quarantine", query={"id": wanted.ids[0]})
    everything = None if any(value is not None for value in _quarantine(wanted).values()) else True
    query = {**_quarantine(wanted), "all": everything, "newest": wanted.newest, "count": count}
    return with_json("DELETE", "/api/kafka/quarantine", query=query)


CALLS: dict[str, RemoteCall] = {
    "append": RemoteCall(_append, answers.appended),
    "get": RemoteCall(
        lambda event_id, source, recorded_to: get(
            "/api/events", id=event_id, source=source, asOf=clock.optional_microseconds(recorded_to)
        ),
        answers.one_event,
    ),
    "histogram": RemoteCall(_histogram, answers.histogram),
    "event_types": RemoteCall(_types, answers.event_types),
    "create_backup": RemoteCall(
        lambda label: post("/api/backup/create", {} if label is None else {"label": label}), answers.created
    ),
    "list_backups": RemoteCall(
        lambda limit, before: get("/api/backup/list", limit=limit, before=before), answers.backups
    ),
    "backup_entry": RemoteCall(lambda name: get(path_of_backup(name)), answers.one_backup),
    "backup_manifest": RemoteCall(lambda name: get(path_of_backup(name)), answers.member("manifest")),
    "verify_backup": RemoteCall(
        lambda name, records: post(path_of_backup(name, "verify"), query={"records": records}), answers.one_backup
    ),
    "delete_backup": RemoteCall(
        lambda name, force: with_json("DELETE", path_of_backup(name), query={"force": force}), answers.nothing
    ),
    "plan_deletion": RemoteCall(lambda name: get(path_of_backup(name), dryRun="delete"), answers.member("plan")),
    "pin_backup": RemoteCall(_pin, answers.one_backup),
    "plan_prune": RemoteCall(lambda: post("/api/backup/prune", {"dryRun": True}), answers.member("plan")),
    "prune_backups": RemoteCall(lambda: post("/api/backup/prune"), answers.pruned),
    "restore": RemoteCall(
        lambda name, staged, cancel_jobs: _restore(name, staged=staged, cancel_jobs=cancel_jobs), answers.restored
    ),
    "restore_moment": RemoteCall(
        lambda moment, staged, cancel_jobs, replay: _restore(
            moment, staged=staged, cancel_jobs=cancel_jobs, replay=replay
        ),
        answers.restored,
    ),
    "undo": RemoteCall(lambda name: post("/api/backup/undo", {} if name is None else {"name": name}), answers.restored),
    "list_undo": RemoteCall(lambda: get("/api/backup/undo"), answers.previous),
    "plan_restore": RemoteCall(
        lambda target, replay: post(
            "/api/backup/restore", {**moment_members(target), "dryRun": True, **({"replay": True} if replay else {})}
        ),
        answers.member("plan"),
    ),
    "timeline": RemoteCall(lambda buckets: get("/api/backup/timeline", buckets=buckets), answers.whole),
    "rehearse": RemoteCall(_rehearse, answers.rehearsed),
    "list_rehearsals": RemoteCall(lambda: get("/api/backup/rehearsals"), answers.rehearsals),
    "copy_events_to_present": RemoteCall(
        lambda query: post("/api/backup/restore", {"into": "present", **past_members(query)}), answers.copied
    ),
    "accept_loss": RemoteCall(
        lambda partition, topic: post(f"/api/kafka/partitions/{_path_of_topic(topic)}{partition}/accept-loss"),
        answers.nothing,
    ),
    "list_quarantine": RemoteCall(
        lambda wanted, limit, before: get("/api/kafka/quarantine", **_quarantine(wanted), limit=limit, before=before),
        answers.quarantine,
    ),
    "quarantined_message": RemoteCall(
        lambda message_id: get("/api/kafka/quarantine", id=message_id), answers.quarantined_message
    ),
    "replay_quarantined": RemoteCall(
        lambda ids, mode: post("/api/kafka/quarantine", {"ids": list(ids), **({"as": mode} if mode else {})}),
        answers.replayed,
    ),
    "drop_quarantined": RemoteCall(_drop, answers.dropped),
    "accept_problem": RemoteCall(
        lambda code, about: post(
            f"/api/problems/{_in_path(code, ProblemNotFound, 'problem')}/accept",
            {} if about is None else {"about": about},
        ),
        answers.accepted,
    ),
    "send_test_notification": RemoteCall(lambda: post("/api/notify/test"), answers.deliveries),
    "list_operations": RemoteCall(_operations, answers.operations),
    "get_operation": RemoteCall(lambda operation_id: get(path_of_operation(operation_id)), answers.one_operation),
    "cancel_operation": RemoteCall(
        lambda operation_id: with_json("DELETE", path_of_operation(operation_id)), answers.one_operation
    ),
    "read_audit": RemoteCall(lambda after, limit: get("/api/audit", after=after, limit=limit), answers.audit),
    "status": RemoteCall(lambda: get("/api/health"), answers.health),
}
"""The methods that are one request. `app.cli.remote.store` has the others."""

NOT_OVER_HTTP = {
    "backup_path": "the path of an archive",
    "export_path": "the path of an export",
    "export_events": "an export into a file of the service",
    "check_export": "an export into a file of the service",
    "last_common": "the comparison of two generations",
    "renew_key": "a new key of the installation",
    "wait_for_published": "a wait until Kafka has the events",
    "note_deed": "an entry of the audit",
    "count_refused_sign_ins": "a count of refused sign-ins",
}
"""The methods that no request stands for → what they do, for the error."""
