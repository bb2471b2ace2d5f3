"""What the audit says of each audited method of the ports: the target of the deed, and its results.

It says only what is needed to know what was done: no payload, and no values of an event filter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from eventvault import clock
from eventvault.backups.entry import BackupEntry, Created
from eventvault.database.values import ScanQuery
from eventvault.kafka.values import QuarantineFilter
from eventvault.past.values import CopyResult, Exported
from eventvault.problems import Problem
from eventvault.restore.values import Moment, Restored
from eventvault.rpc.methods import Method

MAX_NAMES = 100
"""One line has at most so many names of archives; for more, it has their count instead."""


class About(NamedTuple):
    """What a deed is about. target: a name, such as that of an archive. details: how the deed has to be done."""

    target: str | None
    details: dict[str, Any]


def describe(method: Method, arguments: Sequence[Any]) -> About:
    """Return what the audit has to say before a deed."""
    named = dict(zip(method.argument_names, arguments, strict=True))
    return _BEGUN[method.name](named)


def describe_answer(method: str, answer: Any) -> dict[str, Any]:
    """Return the results that the audit has after a deed that succeeded."""
    describe_result = _ENDED.get(method)
    return {} if describe_result is None else describe_result(answer)


def _describe_names(names: Sequence[str]) -> dict[str, Any]:
    return {"removed": list(names)} if len(names) <= MAX_NAMES else {"removedCount": len(names)}


def _describe_created(created: Created) -> dict[str, Any]:
    return {"backup": created.backup.name, "events": created.backup.events, "sequence": created.backup.sequence}


def _describe_restored(restored: Restored) -> dict[str, Any]:
    replaced = restored.replaced_events
    return {
        "source": restored.source,
        "events": restored.events,
        "generation": restored.generation,
        **({"staged": True} if restored.staged else {}),
        **({"leftBehind": replaced.count} if replaced is not None else {}),
        **({"undo": restored.undo.name} if restored.undo is not None else {}),
        **({"cancelledJobs": restored.cancelled_jobs} if restored.cancelled_jobs is not None else {}),
    }


def _by_argument(target: str, *details: str) -> Callable[[Mapping[str, Any]], About]:
    """Describe a call by its argument `target`, and by those of the arguments `details` that are set."""
    return lambda named: About(named[target], {name: named[name] for name in details if named[name]})


def _describe_pin(named: Mapping[str, Any]) -> About:
    until = named["until"]
    return About(
        named["name"],
        {
            "pinned": named["pinned"],
            **({"reason": named["reason"][:_MAX_REASON]} if named["reason"] else {}),
            **({"until": clock.format_milliseconds(until)} if until is not None else {}),
        },
    )


_MAX_REASON = 300


def _describe_moment(named: Mapping[str, Any]) -> About:
    details = ("staged", "cancel_jobs", "replay")
    return About(_text_of(named["moment"]), {name: True for name in details if named[name]})


def _text_of(moment: Moment) -> str:
    """Return a moment as the command line takes it."""
    generation = f"{moment.generation}@" if moment.generation else ""
    if moment.archive is not None:
        return moment.archive
    if moment.sequence is not None:
        return f"{generation}#{moment.sequence}"
    return generation + ("now" if moment.instant is None else clock.format_microseconds(moment.instant))


def _describe_query(named: Mapping[str, Any]) -> About:
    query: ScanQuery = named["query"]
    filters = ("type", "subject", "source", "recorded_from", "recorded_to")
    is_filtered = any(getattr(query, name) is not None for name in filters)
    return About(f"#{query.after + 1} to #{query.upto}", {"filtered": True} if is_filtered else {})


def _describe_upload(entry: BackupEntry) -> dict[str, Any]:
    return {"events": entry.events, "proven": entry.origin_proven}


def _describe_copy(result: CopyResult) -> dict[str, Any]:
    return {"appended": result.appended, "alreadyThere": result.already_there}


def _describe_export(exported: Exported) -> dict[str, Any]:
    return {"events": exported.events, "size": exported.size}


def _describe_accepted(problem: Problem) -> dict[str, Any]:
    return {} if problem.about is None else {"about": problem.about}


def _describe_partition(named: Mapping[str, Any]) -> About:
    topic, number = named.get("topic"), named["partition"]
    return About(f"partition {number}" if topic is None else f"{topic}/{number}", {})


def _describe_drop(named: Mapping[str, Any]) -> About:
    wanted: QuarantineFilter = named["wanted"]
    if wanted.ids:
        ids = wanted.ids
        return About(ids[0] if len(ids) == 1 else f"{len(ids)} messages of the quarantine", {})
    names = ("topic", "partition", "reason")
    chosen = {name: getattr(wanted, name) for name in names if getattr(wanted, name) is not None}
    return About("messages of the quarantine", {**chosen, "reason": "filtered"} if "reason" in chosen else chosen)


_BEGUN: dict[str, Callable[[Mapping[str, Any]], About]] = {
    "create_backup": _by_argument("label"),
    "adopt_upload": _by_argument("name"),
    "delete_backup": _by_argument("name", "force"),
    "pin_backup": _describe_pin,
    "prune_backups": lambda _: About(None, {}),
    "renew_key": lambda _: About("a new key of this installation", {}),
    "restore": _by_argument("name", "staged", "cancel_jobs"),
    "restore_moment": _describe_moment,
    "undo": _by_argument("name"),
    "copy_events_to_present": _describe_query,
    "export_events": _describe_query,
    "accept_loss": _describe_partition,
    "accept_problem": _by_argument("code", "about"),
    "drop_quarantined": _describe_drop,
    "cancel_operation": _by_argument("operation_id"),
}
_ENDED: dict[str, Callable[[Any], dict[str, Any]]] = {
    "create_backup": _describe_created,
    "adopt_upload": _describe_upload,
    "prune_backups": lambda pruned: {**_describe_names(pruned["removed"]), "freedBytes": pruned["freedBytes"]},
    "restore": _describe_restored,
    "restore_moment": _describe_restored,
    "undo": _describe_restored,
    "copy_events_to_present": _describe_copy,
    "export_events": _describe_export,
    "accept_problem": _describe_accepted,
    "drop_quarantined": lambda count: {"dropped": count},
    "renew_key": lambda count: {"archives": count},
}
