"""Prints every command's result or its error, as text or with `--json` as one JSON object, and exits.

`app.error_codes` has the exit status of each code. click itself exits 2 if the command line is wrong.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import click
import orjson

from app.error_codes import ANSWERS, FAILED
from app.errors import error_body
from eventvault.damage import SYSTEM_ERRORS, as_answer
from eventvault.errors import EventVaultError
from eventvault.operations.caller import SHELL, Caller, calling

_COMMANDS = {
    "GET /api/backup/timeline": "`flask backup timeline`",
    "GET /api/backup/list": "`flask backup list`",
    "GET /api/backup/undo": "`flask backup undo --list`",
    "GET /api/operations": "`flask operations list`",
    "POST /api/backup/create": "`flask backup create`",
    "POST /api/backup/undo": "`flask backup undo`",
    "POST /api/backup/restore": "`flask backup restore`",
    "POST /api/backup/rehearse": "`flask backup rehearse`",
    "force=true": "--force",
}
"""The core advises by what the API calls it; the same in a command's words."""
PARTLY_STATUS = 8
"""A part of what was asked for was not done, such as the check of a damaged backup among good ones."""
INTERRUPTED_STATUS = 130
"""Ctrl-C, as shells have it."""


def run_and_print(
    work: Callable[[], dict[str, Any]], describe: Callable[[dict[str, Any]], str], *, as_json: bool
) -> None:
    """Do the work and print its result, as JSON or as text by `describe`. If it fails, print the error and exit."""
    with reporting_errors(as_json=as_json):
        done = work()
    print_result(done, describe, as_json=as_json)


def print_result(done: dict[str, Any], describe: Callable[[dict[str, Any]], str], *, as_json: bool) -> None:
    click.echo(_json({"success": True, **done}) if as_json else describe(done))


@contextmanager
def reporting_errors(*, as_json: bool) -> Iterator[None]:
    """Print the error that ends the context, and exit with its status; what the system says is an error too."""
    try:
        with calling(Caller(SHELL)):
            yield
    except EventVaultError as error:
        exit_with_error(error, as_json=as_json)
    except SYSTEM_ERRORS as error:
        exit_with_error(as_answer("the command", error), as_json=as_json)


def exit_with_error(error: EventVaultError, *, as_json: bool) -> NoReturn:
    """Print the error, as text to standard error or as JSON to standard output, and exit with its status."""
    hint = in_commands(error.hint)
    if as_json:
        click.echo(_json(error_body(error.code, error.message, hint, error.details)))
    else:
        click.echo(f"{error.message}\nHINT: {hint}", err=True)
    sys.exit(exit_status_of(error.code))


def in_commands(hint: str) -> str:
    """Return a hint with commands in place of the requests that do the same."""
    for request, command in _COMMANDS.items():
        hint = re.sub(rf"(?<![`\w]){re.escape(request)}(?![\w/<]| \{{)", command, hint)
    return hint


def exit_with_usage_error(error: click.UsageError) -> NoReturn:
    """Print what is wrong with the command line as JSON to standard output, and exit as click does."""
    command = error.ctx.command_path if error.ctx is not None else "flask"
    click.echo(_json(error_body("invalid", error.format_message(), f"{command} --help shows what it takes")))
    sys.exit(error.exit_code)


def exit_status_of(code: str) -> int:
    """Return the exit status of a command that fails with this code."""
    answer = ANSWERS.get(code)
    return FAILED if answer is None or answer.exit_status is None else answer.exit_status


def _json(payload: dict[str, Any]) -> str:
    return orjson.dumps(payload, default=str).decode()
