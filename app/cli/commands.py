"""Makes click's commands from the table, for `eventvault` and for the entry points `flask.commands`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from app.cli.command_table import COMMANDS, CommandEntry
from app.cli.group import Deferred, Group


def command(name: str) -> click.Command:
    """Return the group or the command of that name."""
    entry = COMMANDS[name]
    if isinstance(entry, CommandEntry):
        return _defer(name, entry)
    commands = {verb: _defer(verb, command_entry) for verb, command_entry in entry.verbs.items()}
    return Group(name, commands, help=entry.summary)


def _defer(name: str, entry: CommandEntry) -> Deferred:
    return Deferred(name, entry.where, entry.summary, hidden=entry.hidden)


def _missing_command(name: str) -> click.Command:
    """Return a command that fails: the installed version names it, but this checkout lacks it. Others then work."""

    def fail(**_: object) -> None:
        raise click.UsageError(f"this version has no command {name}; `make run` installs what it has")

    words = click.Argument(["words"], nargs=-1, type=click.UNPROCESSED)
    return click.Command(
        name, callback=fail, params=[words], hidden=True, context_settings={"ignore_unknown_options": True}
    )


if not TYPE_CHECKING:

    def __getattr__(name: str) -> click.Command:
        """Return the command of an entry point, which names it as an attribute of this module."""
        if name.startswith("_"):
            raise AttributeError(name)
        return command(name) if name in COMMANDS else _missing_command(name)
