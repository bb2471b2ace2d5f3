"""`eventvault help`: the help of a command, or the table of the exit statuses."""

from __future__ import annotations

import click

from app.cli import text
from app.cli.commands import COMMANDS, command
from app.cli.exits import STATUSES
from app.cli.group import Command
from app.cli.program import program


@click.command("help", cls=Command)
@click.argument("topic", nargs=-1)
@click.pass_context
def show_help(context: click.Context, topic: tuple[str, ...]) -> None:
    """Show the help of a command (`help backup restore`), or the exit statuses (`help exits`)."""
    if topic == ("exits",):
        rows = [(str(status), name, what) for status, (name, what) in STATUSES.items()]
        click.echo(text.table(("STATUS", "", "MEANING"), rows, right={0}))
        return
    click.echo(_help_of(context, topic))


def _help_of(context: click.Context, words: tuple[str, ...]) -> str:
    """Return the help of a command of the tree."""
    if not words or words[0] not in COMMANDS:
        raise click.UsageError(f"name one of: {', '.join(COMMANDS)}, exits", context)
    found = _context_of(command(words[0]), f"{program()} {words[0]}")
    for word in words[1:]:
        inner = found.command.get_command(found, word) if isinstance(found.command, click.Group) else None
        if inner is None:
            raise click.UsageError(f"there is no command {found.info_name} {word}", context)
        found = _context_of(inner, f"{found.info_name} {word}")
    return found.get_help()


def _context_of(one: click.Command, name: str) -> click.Context:
    return one.make_context(name, [], resilient_parsing=True)
