"""`eventvault completion`: the script for bash, zsh or fish, and the names of backups that complete a word.

The names come from `BACKUP_DIR` and its catalogue, without a store. Nothing is changed, whatever is damaged.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from heapq import nlargest
from pathlib import Path
from typing import Any

import click
from click.shell_completion import BashComplete, CompletionItem, FishComplete, ShellComplete, ZshComplete

from app.cli import exits
from app.cli.group import Command
from app.cli.options import json_option
from app.cli.program import program
from eventvault import data_folders
from eventvault.backups import names
from eventvault.printable import printable

_MOST = 500
"""Names that are offered at a time, the newest ones: nobody reads more of them, and each costs time."""
_LARGEST_CATALOGUE = 2**22
"""Bytes. A larger one takes too long to read for each Tab."""


class _Bash(BashComplete):
    """Like click's, but a name is quoted: bash would run the command in a name such as `$(reboot).tar.gz`."""

    source_template = BashComplete.source_template.replace(
        "COMPREPLY+=($value)", 'printf -v value \'%%q\' "$value"\n            COMPREPLY+=("$value")'
    )


class _Fish(FishComplete):
    """Like click's, but a name may have a comma."""

    source_template = FishComplete.source_template.replace('string split ","', 'string split -m 1 ","')


_SHELLS: dict[str, type[ShellComplete]] = {"bash": _Bash, "zsh": ZshComplete, "fish": _Fish}


@click.command("completion", cls=Command)
@click.argument("shell", type=click.Choice(list(_SHELLS)))
@json_option
def completion(*, shell: str, as_json: bool) -> None:
    """Print the completion script for a shell, which completes commands, options and the names of backups.

    \b
    bash  eventvault completion bash > /etc/bash_completion.d/eventvault
    zsh   eventvault completion zsh > "${fpath[1]}/_eventvault"
    fish  eventvault completion fish > ~/.config/fish/completions/eventvault.fish
    """
    name = program()
    script = _SHELLS[shell](click.Group(), {}, name, f"_{name}_COMPLETE".upper()).source()
    if as_json:
        exits.print_result({"script": script}, str, as_json=True)
        return
    click.echo(script)


def backup_items(incomplete: str) -> list[CompletionItem[str]]:
    """Return the newest names on this machine that begin with `incomplete`, each with a summary from the catalogue."""
    from eventvault.settings import load

    if os.environ.get("EVENTVAULT_URL"):
        return []
    try:
        folder = load().backup_dir
        records = _read_catalogue(folder / data_folders.CATALOGUE)
        newest = nlargest(_MOST, _names(folder, incomplete))
    except Exception:  # noqa: BLE001 - the shell would show the error in the middle of the line
        return []
    return [CompletionItem(name, help=_summary(records.get(name))) for name in newest]


def _names(folder: Path, incomplete: str) -> Iterator[str]:
    for path in folder.iterdir():
        if path.name.startswith(incomplete) and names.is_name(path.name) and not path.name.startswith("."):
            yield path.name


def _read_catalogue(catalogue: Path) -> dict[str, Any]:
    """Return the records of the catalogue; none if it is damaged, missing or large."""
    import msgspec

    from eventvault.regular_files import open_file

    try:
        with open_file(catalogue) as file:
            content = file.read(_LARGEST_CATALOGUE + 1)
        records: dict[str, Any] = msgspec.json.decode(content)["archives"]
    except (OSError, msgspec.MsgspecError, RecursionError, KeyError, TypeError, ValueError):
        return {}
    return records if isinstance(records, dict) else {}


def _summary(record: Any) -> str | None:
    """Return the text beside the name, on one line."""
    summary = record.get("summary") if isinstance(record, dict) else None
    if not isinstance(summary, dict) or not isinstance(summary.get("events"), int):
        return None
    label = f", {printable(str(summary['label']))}" if summary.get("label") else ""
    return f"{summary['events']:,} events{label}"
