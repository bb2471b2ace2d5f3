"""The commands of the table, as click has them: `eventvault` and the entry points `flask.commands` come from here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from app.cli.command_table import COMMANDS, CommandEntry
from app.cli.group import Deferred, Group


def command(name: str) -> click.Command:
    """Return the group or the command of that name."""
    entry = COMMANDS[name]
    if isinstance(entry, CommandEntry):
        return _deferred(name, entry)
    return Group(name, {verb: _deferred(verb, each) for verb, each in entry.verbs.items()}, help=entry.summary)


def _deferred(name: str, entry: CommandEntry) -> Deferred:
    return Deferred(name, entry.where, entry.summary, hidden=entry.hidden)


def _missing(name: str) -> click.Command:
    """Stands for a command of an installed version that this checkout does not have, so that others work."""

    def fail(**_: object) -> None:
        raise click.UsageError(f"this version has no command {name}; `make run` installs what it has")

    words = click.Argument(["words"], nargs=-1, type=click.UNPROCESSED)
    return click.Command(
        name, callback=fail, params=[words], hidden=True, context_settings={"ignore_unknown_options": True}
    )


if not TYPE_CHECKING:

    def __getattr__(name: str) -> click.Command:
        """The entry points name the commands as attributes of this module."""
        if name.startswith("_"):
            raise AttributeError(name)
        return command(name) if name in COMMANDS else _missing(name)
