"""What a prune would do, as the API shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eventvault import clock
from eventvault.backups.entry import BackupEntry
from eventvault.backups.retention import CLOCK, RetentionPlan

_IN_DOUBT = (
    "the clock is not believed, or archives are dated in another order than they were made: such an archive (`keptBy`: "
    "`clock`) is removed neither by age nor by calendar"
)


def describe_plan(plan: RetentionPlan, entries: Sequence[BackupEntry], frees: Mapping[str, int]) -> dict[str, Any]:
    """Return the plan. entries: all archives, newest first. frees: name of one that goes → bytes that become free."""
    staying = [entry for entry in entries if entry.name not in frees]
    return {
        "keep": [{**_describe(entry), "keptBy": list(plan.retained[entry.name])} for entry in staying],
        "remove": [{**_describe(entry), "freesBytes": frees[entry.name]} for entry in entries if entry.name in frees],
        "freesBytes": sum(frees.values()),
        "goodLeft": sum(entry.origin_proven and entry.problem is None for entry in staying),
        "tooLargeBy": plan.excess,
        "notes": [_IN_DOUBT] if any(CLOCK in reasons for reasons in plan.retained.values()) else [],
    }


def _describe(entry: BackupEntry) -> dict[str, Any]:
    pin = entry.pin and {
        "reason": entry.pin.reason,
        "until": clock.optional_milliseconds(entry.pin.until),
    }
    return {
        "name": entry.name,
        "created": clock.format_milliseconds(entry.created),
        "size": entry.size,
        "pin": pin,
        "problem": entry.problem,
    }
