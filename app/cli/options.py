"""Options that several commands have, and questions before something is destroyed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from app.cli import exits
from app.cli.meta import JSON, UTC
from eventvault.errors import InvalidInput
from eventvault.exit_statuses import INTERRUPTED


def _or_before(key: str) -> Callable[[click.Context, click.Parameter, bool], bool]:
    """Return a callback for a flag that is also set if it comes before the command: `flask backup --json list`."""
    return lambda context, _, is_set: is_set or bool(context.meta.get(key))


json_option = click.option(
    "--json", "as_json", is_flag=True, callback=_or_before(JSON), help="Print one JSON object, also for errors."
)
utc_option = click.option(
    "--utc", is_flag=True, callback=_or_before(UTC), help="Show times in UTC instead of the local zone."
)
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")
detach_option = click.option("--detach", is_flag=True, help="Begin it, print the id of the operation, and do not wait.")


def print_begun(begin: Callable[[], Any], *, as_json: bool) -> None:
    """Begin an operation and print its id alone."""
    from app.cli.watching import begin_operation  # most commands that have options begin none

    exits.run_and_print(
        lambda: {"operation": begin_operation(begin)}, lambda done: str(done["operation"]), as_json=as_json
    )


def require_file_place(path: Path, otherwise: str) -> None:
    """Raise InvalidInput unless a file can be written there. otherwise: what was not done."""
    if not path.parent.is_dir():
        raise InvalidInput(f"there is no folder {path.parent}; {otherwise}", hint="make it, or name another")
    if path.exists() and not path.is_file():
        what = "a folder" if path.is_dir() else "no regular file"
        raise InvalidInput(f"{path} is {what}; {otherwise}", hint="name a file")


def can_ask() -> bool:
    return sys.stdin.isatty()


def require_answer(*, yes: bool, as_json: bool, instead: str = "add --yes") -> None:
    """Exit with `invalid` if the command has to ask and nobody can answer. Call it before anything is done."""
    if not yes and (as_json or not can_ask()):
        why = "with --json nothing is asked" if as_json else "nobody can be asked, as standard input is not a terminal"
        error = InvalidInput(f"{why}, and nothing was done", hint=instead)
        exits.exit_with_error(error, as_json=as_json)


def ask(question: str) -> None:
    """Ask on standard error; anything but yes ends the command."""
    with _reporting_interrupts():
        if click.confirm(question, err=True):
            return
    raise click.Abort


def ask_for(word: str, what: str = "the name", *, lead: str = "There is no undo for this. ") -> None:
    """Ask for a word before something that cannot be undone; anything else ends the command."""
    with _reporting_interrupts():
        if click.prompt(f"{lead}Type {what} to go on", err=True) == word:
            return
    click.echo("That is not what was asked for; nothing was done.", err=True)
    raise click.Abort


@contextmanager
def _reporting_interrupts() -> Iterator[None]:
    """Exit at Ctrl-C as every command does; click would treat it like a no."""
    try:
        yield
    except click.Abort as abort:
        if isinstance(abort.__context__, KeyboardInterrupt):
            click.echo("\nNothing was done.", err=True)
            sys.exit(INTERRUPTED)
        raise
