"""Maps every error to an exit status: `EXIT_STATUSES` is the one table from an error's code to it.

Every command prints its result or its error here, as text or with `--json` as one JSON object. The table from codes to
HTTP statuses is in `app.errors`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NoReturn

import click
import orjson

from app.errors import error_body
from eventvault.errors import EventVaultError
from eventvault.settings import INVALID_SETTINGS_STATUS

FAILED = 1
NOT_FOUND = 3
CONFLICT = 4
INVALID = 5
TRY_AGAIN = 6
NO_SPACE = 7

EXIT_STATUSES: dict[str, int] = {
    "backup_not_found": NOT_FOUND,
    "event_not_found": NOT_FOUND,
    "undo_not_found": NOT_FOUND,
    "nothing_to_undo": NOT_FOUND,
    "nothing_to_recover": NOT_FOUND,
    "nothing_to_accept": NOT_FOUND,
    "problem_not_found": NOT_FOUND,
    "moment_unavailable": NOT_FOUND,
    "database_missing": NOT_FOUND,
    "database_present": CONFLICT,
    "service_running": CONFLICT,
    "backup_exists": CONFLICT,
    "backup_protected": CONFLICT,
    "backups_changed": CONFLICT,
    "restore_running": CONFLICT,
    "generation_left_behind": CONFLICT,
    "partition_not_stopped": CONFLICT,
    "forbidden": CONFLICT,
    "malformed": INVALID,
    "invalid": INVALID,
    "too_large": INVALID,
    "unsupported_media_type": INVALID,
    "archive_damaged": INVALID,
    "archive_incomplete": INVALID,
    "archive_unsafe": INVALID,
    "archive_alien": INVALID,
    "archive_too_new": INVALID,
    "archive_unreadable": TRY_AGAIN,
    "journal_damaged": INVALID,
    "database_damaged": INVALID,
    "database_too_new": INVALID,
    "database_locked": TRY_AGAIN,
    "store_unavailable": TRY_AGAIN,
    "store_stopping": TRY_AGAIN,
    "restoring": TRY_AGAIN,
    "too_busy": TRY_AGAIN,
    "outcome_unknown": TRY_AGAIN,
    "disk_failed": TRY_AGAIN,
    "cancelled": TRY_AGAIN,
    "backups_unavailable": TRY_AGAIN,
    "journal_failed": TRY_AGAIN,
    "write_failed": TRY_AGAIN,
    "kafka_unreachable": TRY_AGAIN,
    "kafka_not_configured": INVALID_SETTINGS_STATUS,
    "no_space": NO_SPACE,
    "invalid_settings": INVALID_SETTINGS_STATUS,
    "internal_error": FAILED,
    "database_error": FAILED,
}
"""Error code of the core → exit status. click itself exits 2 if the command line is wrong."""


def run_and_print(
    work: Callable[[], dict[str, Any]], describe: Callable[[dict[str, Any]], str], *, as_json: bool
) -> None:
    """Do the work and print its result, as JSON or as text by `describe`. If it fails, print the error and exit."""
    try:
        done = work()
    except EventVaultError as error:
        exit_with_error(error, as_json=as_json)
    click.echo(_json({"success": True, **done}) if as_json else describe(done))


def exit_with_error(error: EventVaultError, *, as_json: bool) -> NoReturn:
    """Print the error, as text to standard error or as JSON to standard output, and exit with its status."""
    if as_json:
        click.echo(_json(error_body(error.code, error.message, error.hint, error.details)))
    else:
        click.echo(f"{error.message}\nHINT: {error.hint}", err=True)
    sys.exit(EXIT_STATUSES.get(error.code, FAILED))


def _json(payload: dict[str, Any]) -> str:
    return orjson.dumps(payload, default=str).decode()
