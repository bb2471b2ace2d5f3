"""`flask backup prune`: what rotation keeps and removes, and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from app.backup.answers import pruned_json
from app.cli import exits, text
from app.cli.connection import current_store
from app.cli.options import ask, detach_option, json_option, print_begun, require_answer, utc_option, yes_option
from app.cli.watching import run_operation
from app.store_retry import retry_while_store_is_away
from eventvault import clock
from eventvault.printable import printable

_RULES = {
    "newest": "one of the newest",
    "last-good": "the last good one",
    "not-ours": "was not made here",
    "damaged": "damaged: it does not count",
    "clock": "its time is in doubt",
    "being-read": "is being read",
}
"""The rules in `keptBy` in words. A rule that is not here is shown as it is."""


@click.command("prune")
@click.option("--dry-run", is_flag=True, help="Show what would go and what stays, and end.")
@click.option("--only-removed", is_flag=True, help="Show only those that go.")
@yes_option
@detach_option
@utc_option
@json_option
def prune(*, dry_run: bool, only_removed: bool, yes: bool, detach: bool, utc: bool, as_json: bool) -> None:
    """Remove the backups that no rule keeps. Shows them and asks. Rotation does the same after each backup.

    The rules are settings: MAX_BACKUPS, KEEP_DAILY and others.
    """
    store, times = current_store(), text.Times(utc=utc)
    if dry_run or not yes:
        with exits.reporting_errors(as_json=as_json):
            plan = retry_while_store_is_away(store.plan_prune)
        if dry_run:
            shown = {"dryRun": True, "plan": plan}
            exits.print_result(shown, lambda _: _describe_plan(plan, times, only_removed), as_json=as_json)
            return
        if not plan["remove"]:
            nothing = pruned_json({"plan": plan, "removed": [], "freedBytes": 0})
            exits.print_result(nothing, lambda _: _describe_plan(plan, times, only_removed), as_json=as_json)
            return
        require_answer(yes=yes, as_json=as_json, instead="add --yes, or --dry-run to see what would go")
        click.echo(text.safe(f"{_describe_plan(plan, times, only_removed)}\n"), err=True)
        ask(f"Remove {text.counted(len(plan['remove']), 'backup')} for good?")
    if detach:
        print_begun(store.prune_backups, as_json=as_json)
        return
    exits.run_and_print(
        lambda: pruned_json(run_operation(store, "Pruning", store.prune_backups, quiet=as_json)),
        _describe_pruned,
        as_json=as_json,
    )


def _describe_plan(plan: dict[str, Any], times: text.Times, only_removed: bool) -> str:
    going = [(entry, "no", "–") for entry in plan["remove"]]
    staying = [] if only_removed else [(entry, "yes", _why(entry, times)) for entry in plan["keep"]]
    newest_first = sorted([*staying, *going], key=lambda row: str(row[0]["created"]), reverse=True)
    rows = [
        (stays, times.minute(clock.parse(entry["created"])), why, entry["name"]) for entry, stays, why in newest_first
    ]
    lines = [text.table(("KEEP", f"MADE ({times.zone})", "RULE", "NAME"), rows), ""] if rows else []
    return "\n".join([*lines, *_effect(plan, times)])


def _why(entry: dict[str, Any], times: text.Times) -> str:
    return ", ".join(
        _pin(entry["pin"], times) if rule == "pinned" else _RULES.get(rule, rule) for rule in entry["keptBy"]
    )


def _pin(pin: dict[str, Any] | None, times: text.Times) -> str:
    until = f" until {times.minute(clock.parse(pin['until']))}" if pin and pin["until"] else ""
    reason = f': "{printable(pin["reason"])}"' if pin and pin["reason"] else ""
    return f"pinned{until}{reason}"


def _effect(plan: dict[str, Any], times: text.Times) -> Iterator[str]:
    count = len(plan["remove"])
    if not count:
        yield "Nothing goes: a rule keeps each backup."
    else:
        yield f"{count:,} {'goes' if count == 1 else 'go'}, {text.size(plan['freesBytes'])} become free."
    after = plan["window"]["after"]
    if after is not None:
        oldest = times.with_zone(clock.parse(after["oldest"]["time"]))
        yield f"With what stays in BACKUP_DIR you can go back to any moment since {oldest}."
    if plan["tooLargeBy"]:
        yield f"What stays is {text.size(plan['tooLargeBy'])} larger than MAX_BACKUP_BYTES."
    yield from map(printable, plan["notes"])


def _describe_pruned(done: dict[str, Any]) -> str:
    if not done["removed"]:
        return "Nothing was removed: a rule keeps each backup."
    lines = [printable(name) for name in done["removed"]]
    total = f"{text.counted(len(lines), 'backup')} removed, {text.size(done['freedBytes'])} are free again."
    return "\n".join([*lines, total])
