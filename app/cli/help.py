"""`eventvault help`: the help of a command, or the table of the exit statuses."""

from __future__ import annotations

from typing import Any

import click

from app.cli import exits, text
from app.cli.command_table import COMMANDS
from app.cli.commands import command
from app.cli.group import Command
from app.cli.options import json_option
from app.cli.program import program
from app.cli.root import root
from eventvault.exit_statuses import STATUSES


@click.command("help", cls=Command)
@click.argument("topic", nargs=-1)
@json_option
@click.pass_context
def show_help(context: click.Context, topic: tuple[str, ...], *, as_json: bool) -> None:
    """Show the help of a command (`help backup restore`), or the exit statuses (`help exits`)."""
    if topic == ("exits",):
        exits.print_result({"exits": _statuses()}, _describe_statuses, as_json=as_json)
        return
    exits.print_result({"help": _help_of(context, topic)}, lambda shown: str(shown["help"]), as_json=as_json)


def _statuses() -> list[dict[str, Any]]:
    return [{"status": status, "name": name, "meaning": what} for status, (name, what) in STATUSES.items()]


def _describe_statuses(shown: dict[str, Any]) -> str:
    rows = [(str(row["status"]), row["name"], row["meaning"]) for row in shown["exits"]]
    return text.table(("STATUS", "", "MEANING"), rows, right={0})


def _help_of(context: click.Context, words: tuple[str, ...]) -> str:
    """Return the help of a command of the tree; without words, of all of it."""
    if not words:
        return _context_of(root(), program()).get_help()
    if words[0] not in COMMANDS:
        raise click.UsageError(f"name one of: {', '.join(COMMANDS)}, exits", context)
    outer = _context_of(command(words[0]), f"{program()} {words[0]}")
    for word in words[1:]:
        inner = outer.command.get_command(outer, word) if isinstance(outer.command, click.Group) else None
        if inner is None:
            raise click.UsageError(f"there is no command {outer.info_name} {word}", context)
        outer = _context_of(inner, f"{outer.info_name} {word}")
    return outer.get_help()


def _context_of(topic: click.Command, name: str) -> click.Context:
    return topic.make_context(name, [], resilient_parsing=True)
