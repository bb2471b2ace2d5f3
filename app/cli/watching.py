"""Runs an operation for a command: shows its progress until it ends, and cancels it on Ctrl-C.

Progress goes to standard error: a bar on a terminal, elsewhere a line at the start and one every ten seconds.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from app.cli import text
from app.cli.program import program
from app.operations.following import begin, follow, result_of
from app.store_retry import retry_while_store_is_away
from eventvault import errors
from eventvault.exit_statuses import INTERRUPTED
from eventvault.operations.caller import SHELL
from eventvault.operations.entry import OperationEntry
from eventvault.operations.operation import Progress
from eventvault.operations.records import CANCELLED, SUCCEEDED
from eventvault.printable import printable

if TYPE_CHECKING:
    from eventvault.store.ports.store import Store

T = TypeVar("T")

LINE_SECONDS = 10.0
"""Seconds between two lines of progress where there is no terminal."""
_DUMB = (None, "", "dumb", "unknown")
"""Values of TERM of a terminal on which nothing can be drawn."""

_COPY = "copy"
"""The kind of the operation that appends events of the past page by page. Repeated, it appends the rest."""

Show = Callable[[Progress], None]


class SharedProgress(Progress, frozen=True):
    """The progress of several things together. parts: the one that is worked on, such as `16 of 38`."""

    parts: str = ""


def run_operation(store: Store, doing: str, begin: Callable[[], T], *, quiet: bool) -> T:
    """Begin an operation, watch it to its end, and return what `begin` would have returned. Raises its error.

    doing: what it does, such as `Backing up`. quiet: shows no progress. The first Ctrl-C cancels the operation and
    exits when it has ended; the second one exits at once and lets it go on.
    """
    return _run(store, begin, lambda operation_id: watch(store, operation_id, doing, quiet=quiet))


def run_shown(store: Store, begin: Callable[[], T], show: Show) -> T:
    """Like `run_operation`, for one of several operations that a display shows together."""
    return _run(store, begin, lambda operation_id: follow(store, operation_id, show))


def _run(store: Store, begin: Callable[[], T], await_end: Callable[[str], OperationEntry]) -> T:
    operation_id = begin_operation(begin)
    try:
        entry = await_end(operation_id)
    except KeyboardInterrupt:
        _cancel(store, operation_id)
    result: T = result_of(entry)
    return result


def watch(store: Store, operation_id: str, doing: str, *, quiet: bool) -> OperationEntry:
    """Show the progress of an operation until its end, and return it. Raises OperationNotFound."""
    with display(doing, quiet=quiet) as show:
        return follow(store, operation_id, show)


def begin_operation(call: Callable[[], Any]) -> str:
    """Begin an operation, and return its id without waiting for its end."""
    try:
        return begin(call, SHELL)
    except KeyboardInterrupt:
        click.echo(f"It may have begun: {program()} operations shows it.", err=True)
        sys.exit(INTERRUPTED)


def _cancel(store: Store, operation_id: str) -> NoReturn:
    """Cancel the operation, wait for its end, and exit. A second Ctrl-C leaves it running."""
    try:
        try:
            retry_while_store_is_away(lambda: store.cancel_operation(operation_id))
        except errors.OperationDecided as error:
            click.echo(f"{error.message}; it is carried out", err=True)
        except errors.OperationEnded:
            pass
        except errors.ScopeMissing as error:
            click.echo(f"{error.message}; the operation {operation_id} goes on", err=True)
            sys.exit(INTERRUPTED)
        entry = follow(store, operation_id, lambda _progress: None)
    except KeyboardInterrupt:
        click.echo(f"The operation {operation_id} goes on: {program()} operations watch {operation_id}", err=True)
        sys.exit(INTERRUPTED)
    if entry.state == SUCCEEDED:
        click.echo(f"The operation {operation_id} was done before it could be cancelled.", err=True)
    elif entry.state == CANCELLED:
        stays = "what was appended stays" if entry.kind == _COPY else "nothing was changed"
        click.echo(f"Cancelled; {stays}.", err=True)
    else:
        result_of(entry)
    sys.exit(INTERRUPTED)


@contextmanager
def display(doing: str, *, quiet: bool) -> Iterator[Show]:
    """Yield a function that shows the progress of work. doing: what it does, such as `Backing up`."""
    doing = printable(doing)
    if quiet:
        yield lambda _progress: None
    elif sys.stderr.isatty() and os.environ.get("TERM") not in _DUMB:
        with _bar(doing) as show:
            yield show
    else:
        begun = doing[:1].lower() + doing[1:]
        click.echo(begun, err=True)
        yield _Lines(begun).show


class _Lines:
    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._written = time.monotonic()

    def show(self, progress: Progress) -> None:
        if time.monotonic() - self._written >= LINE_SECONDS:
            self._written = time.monotonic()
            click.echo(f"{self._doing}: {progress.fraction:.0%}, {_details(progress)}", err=True)


@contextmanager
def _bar(doing: str) -> Iterator[Show]:
    # Imported here: only a terminal needs it, and it takes longer to load than a short command runs.
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[details]}", markup=False),
    )
    with ExitStack() as stack:
        bar = stack.enter_context(Bar(*columns, console=Console(stderr=True), transient=True))
        task = bar.add_task(doing, total=1.0, details="")

        def show(progress: Progress) -> None:
            bar.update(task, completed=progress.fraction, details=_details(progress))

        yield show


def _details(progress: Progress) -> str:
    parts = [progress.parts] if isinstance(progress, SharedProgress) else []
    if progress.bytes_total:
        parts.append(f"{text.size(progress.bytes_done)} of {text.size(progress.bytes_total)}")
    if progress.bytes_per_second:
        parts.append(f"{text.size(round(progress.bytes_per_second))}/s")
    if progress.step:
        parts.append(printable(progress.step))
    if progress.remaining_seconds is not None:
        parts.append(f"{text.seconds(progress.remaining_seconds)} left")
    return ", ".join(parts)
