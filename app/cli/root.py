"""`eventvault`: the same commands as `flask backup`, `flask operations` and so on, under a name that can be guessed."""

from __future__ import annotations

from typing import Any

import click

from app.cli.command_table import COMMANDS
from app.cli.commands import command
from app.cli.group import Group, in_one_column
from app.cli.program import EVENTVAULT, program
from eventvault import __version__

_BAD_DAY = (
    ("doctor", "doctor", "what is wrong, and the command that mends it"),
    ("backup", "backup timeline", "how far back you can go"),
    ("backup", 'backup restore --at "2 min ago"', "shows what would happen, then asks"),
    ("backup", "backup undo", "takes the last restore back"),
)
"""The group or command, what to type, and what it does."""


class Root(Group):
    """Without a command it shows its help, which names both programs."""

    context_class = click.Context

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        urgent = [(f"{program()} {line}", what) for name, line, what in _BAD_DAY if name in self.commands]
        for title, rows in (("On a bad day", urgent), ("Commands", self.summaries())):
            formatter.write(f"\n{title}:\n")
            for line in in_one_column(rows):
                formatter.write(f"  {line}\n")


def root() -> Root:
    """Return the whole tree."""
    options: list[click.Parameter] = [
        click.Option(
            ["--version"], is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version."
        )
    ]
    what = "An event registry that cannot be lost. Same commands: flask backup, flask events, …"
    return Root(EVENTVAULT, {name: command(name) for name in COMMANDS}, help=what, params=options)


def _version(context: click.Context, _: click.Parameter, is_set: Any) -> None:
    if is_set and not context.resilient_parsing:
        click.echo(f"EventVault {__version__}")
        context.exit()
