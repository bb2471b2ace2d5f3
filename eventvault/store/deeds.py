"""What the audit says of each audited method of the ports: what the deed is about, and what came of it.

It says no more than is needed to know what was done: no payload, and nothing that a filter of events compares with.
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
"""How many names of archives one line has; of more, how many they are."""


class About(NamedTuple):
    """target: what a deed is about. details: how it is to be done."""

    target: str | None
    details: dict[str, Any]


def describe(method: Method, arguments: Sequence[Any]) -> About:
    """Return what is written before a deed."""
    named = dict(zip(method.argument_names, arguments, strict=True))
    return _BEGUN[method.name](named)


def describe_answer(method: str, answer: Any) -> dict[str, Any]:
    """Return what is written after a deed that was done."""
    describe_it = _ENDED.get(method)
    return {} if describe_it is None else describe_it(answer)


def names_of(names: Sequence[str]) -> dict[str, Any]:
    return {"removed": list(names)} if len(names) <= MAX_NAMES else {"removedCount": len(names)}


def created(made: Created) -> dict[str, Any]:
    return {"backup": made.backup.name, "events": made.backup.events, "sequence": made.backup.sequence}


def restored(done: Restored) -> dict[str, Any]:
    behind = done.replaced_events
    return {
        "source": done.source,
        "events": done.events,
        "generation": done.generation,
        **({"staged": True} if done.staged else {}),
        **({"leftBehind": behind.count} if behind is not None else {}),
        **({"undo": done.undo.name} if done.undo is not None else {}),
        **({"cancelledJobs": done.cancelled_jobs} if done.cancelled_jobs is not None else {}),
    }


def _of(name: str, *details: str) -> Callable[[Mapping[str, Any]], About]:
    """Describe a call by one argument; the others that are told apart, unless they are at their default."""
    return lambda named: About(named[name], {each: named[each] for each in details if named[each]})


def _pin(named: Mapping[str, Any]) -> About:
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


def _restore_moment(named: Mapping[str, Any]) -> About:
    details = ("staged", "cancel_jobs", "replay")
    return About(text_of(named["moment"]), {each: True for each in details if named[each]})


def text_of(moment: Moment) -> str:
    """Return a moment as the command line takes it."""
    generation = f"{moment.generation}@" if moment.generation else ""
    if moment.archive is not None:
        return moment.archive
    if moment.sequence is not None:
        return f"{generation}#{moment.sequence}"
    return generation + ("now" if moment.instant is None else clock.format_microseconds(moment.instant))


def _query(named: Mapping[str, Any]) -> About:
    query: ScanQuery = named["query"]
    filters = ("type", "subject", "source", "recorded_from", "recorded_to")
    is_filtered = any(getattr(query, each) is not None for each in filters)
    return About(f"#{query.after + 1} to #{query.upto}", {"filtered": True} if is_filtered else {})


def _entered(entry: BackupEntry) -> dict[str, Any]:
    return {"events": entry.events, "proven": entry.origin_proven}


def _copied(result: CopyResult) -> dict[str, Any]:
    return {"appended": result.appended, "alreadyThere": result.already_there}


def _exported(exported: Exported) -> dict[str, Any]:
    return {"events": exported.events, "size": exported.size}


def _accepted(problem: Problem) -> dict[str, Any]:
    return {} if problem.about is None else {"about": problem.about}


def _partition(named: Mapping[str, Any]) -> About:
    topic, number = named.get("topic"), named["partition"]
    return About(f"partition {number}" if topic is None else f"{topic}/{number}", {})


def _dropped(named: Mapping[str, Any]) -> About:
    wanted: QuarantineFilter = named["wanted"]
    if wanted.ids:
        ids = wanted.ids
        return About(ids[0] if len(ids) == 1 else f"{len(ids)} messages of the quarantine", {})
    names = ("topic", "partition", "reason")
    chosen = {each: getattr(wanted, each) for each in names if getattr(wanted, each) is not None}
    return About("messages of the quarantine", {**chosen, "reason": "filtered"} if "reason" in chosen else chosen)


_BEGUN: dict[str, Callable[[Mapping[str, Any]], About]] = {
    "create_backup": _of("label"),
    "adopt_upload": _of("name"),
    "delete_backup": _of("name", "force"),
    "pin_backup": _pin,
    "prune_backups": lambda _: About(None, {}),
    "renew_key": lambda _: About("a new key of this installation", {}),
    "restore": _of("name", "staged", "cancel_jobs"),
    "restore_moment": _restore_moment,
    "undo": _of("name"),
    "copy_events_to_present": _query,
    "export_events": _query,
    "accept_loss": _partition,
    "accept_problem": _of("code", "about"),
    "drop_quarantined": _dropped,
    "cancel_operation": _of("operation_id"),
}
_ENDED: dict[str, Callable[[Any], dict[str, Any]]] = {
    "create_backup": created,
    "adopt_upload": _entered,
    "prune_backups": lambda pruned: {**names_of(pruned["removed"]), "freedBytes": pruned["freedBytes"]},
    "restore": restored,
    "restore_moment": restored,
    "undo": restored,
    "copy_events_to_present": _copied,
    "export_events": _exported,
    "accept_problem": _accepted,
    "drop_quarantined": lambda count: {"dropped": count},
    "renew_key": lambda count: {"archives": count},
}
