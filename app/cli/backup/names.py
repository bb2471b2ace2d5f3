"""The names of backups as arguments of commands: the shell completes them, without a store."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem


class BackupName(click.ParamType):
    """A backup's name. The store says whether there is such a backup."""

    name = "name"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from app.cli.completion import backup_items  # only the completion of a shell needs it

        return backup_items(incomplete)
