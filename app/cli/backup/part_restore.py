"""`flask backup restore --into`: copies matching events of the past into the current registry or into a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from pathlib import Path
from typing import Any, TypeVar

import click

from app.backup.answers import copied_json
from app.cli import exits, text
from app.cli.connection import current_store
from app.cli.events.pages import EventFilter, filter_options, resolve
from app.cli.options import ask, print_begun, require_answer
from app.cli.watching import run_operation
from eventvault.past.moment_text import LARGEST
from eventvault.past.values import CopyResult
from eventvault.restore.values import Moment

Command = TypeVar("Command", bound=Callable[..., Any])

PRESENT, OUTPUT = "present", "-"
_OPTIONS = (
    click.option(
        "--into",
        metavar="[present|FILE|-]",
        help="Copy only the events that match: as new events of the registry, or to a file or standard output.",
    ),
    filter_options,
    click.option("--from-sequence", type=click.IntRange(1, LARGEST), help="With --into: from this sequence on."),
    click.option("--to-sequence", type=click.IntRange(0, LARGEST), help="With --into: up to this sequence."),
)


def into_options(command: Command) -> Command:
    """Add --into, and the options that select events for it."""
    return reduce(lambda decorated, option: option(decorated), reversed(_OPTIONS), command)


def refuse_filters(filters: Mapping[str, Any]) -> None:
    """Raise UsageError for options that select events, as only `--into` does so."""
    if any(value is not None for value in filters.values()):
        raise click.UsageError("--type, --subject, --source, --from and --to select events for --into")


def copy(
    moment: Moment, moment_text: str, into: str, filters: Mapping[str, Any], *, yes: bool, detach: bool, as_json: bool
) -> None:
    """Copy the events of a moment. moment_text: for a question. Raises MomentUnavailable or BackupNotFound."""
    wanted = EventFilter.of(filters)
    if into == PRESENT:
        _into_present(moment, moment_text, wanted, yes=yes, detach=detach, as_json=as_json)
        return
    if detach:
        raise click.UsageError("--detach works only with --into present: this command itself writes a file")
    _into_file(moment, into, wanted, as_json=as_json)


def _into_present(
    moment: Moment, moment_text: str, wanted: EventFilter, *, yes: bool, detach: bool, as_json: bool
) -> None:
    if wanted.types is not None:
        raise click.UsageError("with --into present --type names one type, without *")
    store = current_store()
    if not yes:
        resolve(store, moment)  # before the question
        require_answer(yes=yes, as_json=as_json)
        ask(f"Append the events of {moment_text} that match as new ones? Those that are here already stay as they are.")

    def begin() -> CopyResult:
        return store.copy_events_to_present(wanted.at(resolve(store, moment)))

    if detach:
        print_begun(begin, as_json=as_json)
        return
    done = copied_json(run_operation(store, "Copying", begin, quiet=as_json))
    exits.print_result(done, _describe_copied, as_json=as_json)


def _describe_copied(done: dict[str, Any]) -> str:
    match = "matches" if done["matched"] == 1 else "match"
    first = (
        f"{text.counted(done['matched'], 'event')} {match}: {done['appended']:,} appended as new, "
        f"{done['alreadyThere']:,} there already."
    )
    renamed = done["renamed"]
    if not renamed:
        return first
    return f"{first}\n{renamed:,} of them got a new id, as another event has theirs: `originalid` is the old one."


def _into_file(moment: Moment, into: str, wanted: EventFilter, *, as_json: bool) -> None:
    from app.cli.events import export  # most restores write no file

    otherwise = "name another file, or remove that one"
    path = Path(into)
    if into != OUTPUT:
        export.require_place(path, replace=False, otherwise=otherwise)
    view = resolve(current_store(), moment)
    if into == OUTPUT:
        export.to_standard_output(view, wanted)
        return
    done = export.to_file(path, view, wanted, replace=False, quiet=as_json, otherwise=otherwise)
    exits.print_result(done, export.describe_file, as_json=as_json)
