"""`flask jobs retry`, `cancel`, `pause` and `resume`.

Jobs that a filter chooses are listed first, and exactly these are changed, never others that came since.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import click

from app.cli import exits, text
from app.cli.connection import current_jobs
from app.cli.jobs.listing import STATES, dead_table
from app.cli.options import ask, json_option, require_answer, utc_option, yes_option
from app.jobs.answers import changed_json
from eventvault.errors import JobNotFound
from eventvault.jobs.job import FINAL_STATES, Job
from eventvault.jobs.port import Changed
from eventvault.printable import printable

MOST = 10_000
"""Jobs that a command changes at a time."""
_PAGE = 1_000
_SHOWN = 20
_CANCELLABLE = [state for state in STATES if state not in FINAL_STATES]


@click.command("retry")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--dead", is_flag=True, help="Those that failed for good.")
@click.option("--cancelled", is_flag=True, help="Those that were cancelled.")
@click.option("--type", "job_type", help="Of these, only those of this type.")
@yes_option
@utc_option
@json_option
def retry(
    *, ids: tuple[str, ...], dead: bool, cancelled: bool, job_type: str | None, yes: bool, utc: bool, as_json: bool
) -> None:
    """Run dead or cancelled jobs again, with all their tries. With --dead it shows them and asks."""
    states = [name for name, is_set in (("dead", dead), ("cancelled", cancelled)) if is_set]
    _require_choice(ids, states, job_type)
    times = text.Times(utc=utc)
    chosen = list(ids) or _choose(states, job_type, "Retry", times, yes=yes, as_json=as_json)
    _change(current_jobs().retry, chosen, _describe_retried, as_json=as_json)


@click.command("cancel")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--state", "states", multiple=True, type=click.Choice(_CANCELLABLE), help="Those in this state.")
@click.option("--type", "job_type", help="Of these, only those of this type.")
@yes_option
@utc_option
@json_option
def cancel(
    *, ids: tuple[str, ...], states: tuple[str, ...], job_type: str | None, yes: bool, utc: bool, as_json: bool
) -> None:
    """Cancel jobs. One that waits ends at once; one that runs is asked to end, and killed 5 seconds later."""
    _require_choice(ids, list(states), job_type)
    times = text.Times(utc=utc)
    chosen = list(ids) or _choose(list(states), job_type, "Cancel", times, yes=yes, as_json=as_json)
    _change(current_jobs().cancel, chosen, _describe_cancelled, as_json=as_json)


def _require_choice(ids: tuple[str, ...], states: list[str], job_type: str | None) -> None:
    """Raise UsageError unless there are either ids or a state."""
    if bool(ids) == bool(states):
        raise click.UsageError("name the ids of jobs, or their state, not both" if ids else "name the ids or the state")
    if ids and job_type is not None:
        raise click.UsageError("--type goes with a state, not with ids")


def _choose(
    states: list[str], job_type: str | None, verb: str, times: text.Times, *, yes: bool, as_json: bool
) -> list[str]:
    """Return the ids of the jobs that there are now, once somebody has seen them and agreed."""
    require_answer(yes=yes, as_json=as_json)
    with exits.reporting_errors(as_json=as_json):
        jobs = _list_all(states, [] if job_type is None else [job_type])
    if jobs and not yes:
        click.echo(text.safe(_describe_choice(jobs, times)), err=True)
        ask(f"{verb} exactly these?")
    return [job.id for job in jobs]


def _list_all(states: list[str], types: list[str]) -> list[Job]:
    jobs: list[Job] = []
    before: str | None = None
    while len(jobs) < MOST:
        page = current_jobs().list_jobs(states, types, min(_PAGE, MOST - len(jobs)), before)
        jobs += page.jobs
        before = page.next
        if before is None:
            break
    return jobs


def _describe_choice(jobs: list[Job], times: text.Times) -> str:
    lines = [dead_table(jobs[:_SHOWN], times)]
    if len(jobs) > _SHOWN:
        by_type = Counter(job.type for job in jobs)
        lines.append(", ".join(f"{count:,} {name}" for name, count in by_type.most_common(_SHOWN)))
    newest = max(job.ended or job.created for job in jobs)
    return "\n".join([*lines, f"{text.counted(len(jobs), 'job')}, the newest of {times.minute(newest)}."])


def _change(
    change: Callable[[list[str]], list[Changed]],
    ids: list[str],
    describe: Callable[[list[Changed]], str],
    *,
    as_json: bool,
) -> None:
    with exits.reporting_errors(as_json=as_json):
        pages = [change(ids[first : first + _PAGE]) for first in range(0, len(ids), _PAGE)]
        changes = [changed for page in pages for changed in page]
        if changes and all(changed.outcome == "unknown" for changed in changes):
            raise JobNotFound(
                f"there is no job {changes[0].id!r}; nothing was changed", hint="flask jobs list shows them"
            )
    done: dict[str, Any] = {"jobs": [changed_json(changed) for changed in changes]}
    exits.print_result(done, lambda _: describe(changes) if changes else "There is none.", as_json=as_json)


def _describe_retried(changes: list[Changed]) -> str:
    count = sum(changed.outcome == "changed" for changed in changes)
    return "\n".join([f"{count:,} {_verb(count, 'waits', 'wait')} for a worker.", *_describe_unchanged(changes)])


def _describe_cancelled(changes: list[Changed]) -> str:
    at_once = sum(changed.outcome == "changed" for changed in changes)
    stopping = sum(changed.outcome == "stopping" for changed in changes)
    lines = [f"{at_once:,} cancelled."] if at_once or not stopping else []
    if stopping:
        lines.append(f"{stopping:,} still {_verb(stopping, 'runs', 'run')} and {_verb(stopping, 'is', 'are')} to stop.")
    return "\n".join([*lines, *_describe_unchanged(changes)])


def _describe_unchanged(changes: list[Changed]) -> list[str]:
    others = [changed for changed in changes if changed.outcome in ("unchanged", "unknown")]
    lines = [f"{printable(other.id)} {_why(other)}." for other in others[:_SHOWN]]
    return [*lines, f"{len(others) - _SHOWN:,} more were not changed."] if len(others) > _SHOWN else lines


def _why(change: Changed) -> str:
    return "is not there" if change.outcome == "unknown" else f"is {change.state}, and was not changed"


def _verb(count: int, one: str, many: str) -> str:
    return one if count == 1 else many


@click.command("pause")
@click.argument("job_type", metavar="TYPE")
@json_option
def pause(*, job_type: str, as_json: bool) -> None:
    """Send no more jobs of a type to workers. They are accepted and wait; those that run go on."""
    exits.run_and_print(lambda: {"paused": current_jobs().pause(job_type)}, _describe_paused, as_json=as_json)


@click.command("resume")
@click.argument("job_type", metavar="TYPE", required=False)
@click.option("--all", "all_types", is_flag=True, help="All types, and the jobs that are held.")
@json_option
def resume(*, job_type: str | None, all_types: bool, as_json: bool) -> None:
    """Send jobs of a type to workers again; with --all those of all types, and those that are held."""
    if (job_type is None) == (not all_types):
        raise click.UsageError("name a type, or --all")
    exits.run_and_print(lambda: {"paused": current_jobs().resume(job_type)}, _describe_paused, as_json=as_json)


def _describe_paused(done: dict[str, Any]) -> str:
    return f"Paused: {', '.join(map(printable, done['paused']))}." if done["paused"] else "No type is paused."
