"""The name under which the command line was called, so that help and hints name commands that the reader has."""

from __future__ import annotations

import re
from functools import cache

import click

from app.cli.command_table import COMMANDS

EVENTVAULT, FLASK = "eventvault", "flask"


def program() -> str:
    """Return `eventvault` or `flask`, whichever was called."""
    context = click.get_current_context(silent=True)
    called = context.find_root().info_name if context is not None else None
    return EVENTVAULT if called and EVENTVAULT in called else FLASK


def in_words_of_program(sentence: str) -> str:
    """Return a sentence that names commands as `flask …`, with the name that was called."""
    return _command().sub(f"{program()} ", sentence)


@cache
def _command() -> re.Pattern[str]:
    return re.compile(rf"\bflask (?:--app wsgi )?(?=(?:{'|'.join(COMMANDS)})\b)")
