"""Prints every command's result or its error, as text or with `--json` as one JSON object, and exits.

`app.error_codes` has the exit status of each code, `eventvault.exit_statuses` what each status means.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import click
import orjson

from app.cli import text
from app.cli.program import in_words_of_program, program
from app.error_codes import ANSWERS, error_body
from eventvault.damage import SYSTEM_ERRORS, as_answer
from eventvault.errors import EventVaultError
from eventvault.exit_statuses import FAILED
from eventvault.operations.caller import SHELL, Caller, calling
from eventvault.printable import printable

_COMMANDS = {
    "GET /api/backup/timeline": "`flask backup timeline`",
    "GET /api/backup/list": "`flask backup list`",
    "GET /api/backup/undo": "`flask backup undo --list`",
    "GET /api/events": "`flask events tail`",
    "GET /api/tokens": "`flask tokens list`",
    "GET /api/operations": "`flask operations list`",
    "GET /api/jobs": "`flask jobs list`",
    "GET /api/jobs/schedules": "`flask jobs schedules`",
    "GET /api/kafka/quarantine": "`flask kafka quarantine list`",
    "POST /api/backup/create": "`flask backup create`",
    "POST /api/backup/undo": "`flask backup undo`",
    "POST /api/backup/restore": "`flask backup restore`",
    "POST /api/backup/rehearse": "`flask backup rehearse`",
    "force=true": "--force",
}
"""Request or parameter that a hint of the core names → the command or option that does the same."""
_UNESCAPED = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def run_and_print(
    work: Callable[[], dict[str, Any]], describe: Callable[[dict[str, Any]], str], *, as_json: bool
) -> None:
    """Do the work and print its result, as JSON or as text by `describe`. If it fails, print the error and exit."""
    with reporting_errors(as_json=as_json):
        done = work()
    print_result(done, describe, as_json=as_json)


def print_result(done: dict[str, Any], describe: Callable[[dict[str, Any]], str], *, as_json: bool) -> None:
    """Print what was done. Names and labels in it cannot control the terminal, whatever `describe` makes of them."""
    click.echo(json_text({"success": True, **done}) if as_json else text.safe(describe(done)))


@contextmanager
def reporting_errors(*, as_json: bool) -> Iterator[None]:
    """Print the error that ends the context, and exit with its status. An error of the system is one too."""
    try:
        with calling(Caller(SHELL)):
            yield
    except EventVaultError as error:
        exit_with_error(error, as_json=as_json)
    except SYSTEM_ERRORS as error:
        exit_with_error(as_answer("the command", error), as_json=as_json)


def exit_with_error(error: EventVaultError, *, as_json: bool) -> NoReturn:
    """Print the error, as text to standard error or as JSON to standard output, and exit with its status."""
    message, hint = in_words_of_program(error.message), in_words_of_program(in_commands(error.hint))
    if as_json:
        click.echo(json_text(error_body(error.code, message, hint, error.details)))
    else:
        reasons = _reasons(error.details.get("fields"))
        if reasons:
            hint = hint.replace("`fields` says", "the lines above say")
        click.echo("\n".join([message, *reasons, f"HINT: {hint}"]), err=True)
    sys.exit(getattr(error, "exit_status", None) or exit_status_of(error.code))


def _reasons(fields: Any) -> list[str]:
    """Return a line for each field that is not valid, as a terminal shows no `fields`."""
    if not isinstance(fields, dict):
        return []
    return [printable(f"  {field}: {_reason(why)}") for field, why in fields.items()]


def _reason(why: Any) -> str:
    is_list = isinstance(why, list) and all(isinstance(reason, str) for reason in why)
    return " ".join(why) if is_list else json_text(why)


def in_commands(hint: str) -> str:
    """Return a hint with commands in place of the requests that do the same."""
    for request, command in _COMMANDS.items():
        hint = re.sub(rf"(?<![`\w]){re.escape(request)}(?![\w/<]| \{{)", command, hint)
    return hint


def exit_with_usage_error(error: click.UsageError) -> NoReturn:
    """Print what is wrong with the command line as JSON to standard output, and exit as click does."""
    command = error.ctx.command_path if error.ctx is not None else program()
    click.echo(json_text(error_body("invalid", error.format_message(), f"{command} --help shows what it takes")))
    sys.exit(error.exit_code)


def exit_status_of(code: str) -> int:
    """Return the exit status of a command that fails with this code."""
    answer = ANSWERS.get(code)
    return FAILED if answer is None or answer.exit_status is None else answer.exit_status


def json_text(payload: dict[str, Any], option: int | None = None) -> str:
    """Return an object as JSON in which nothing can control a terminal: orjson escapes only what JSON has to."""
    encoded = orjson.dumps(payload, default=str, option=option).decode()
    return _UNESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", encoded)
