"""The one table from an error's code to the exit status of a command, and how a command says what came of it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NoReturn

import click
import orjson

from app.errors import shape
from eventvault.errors import EventVaultError

FAILED = 1
NOT_THERE = 3
CONFLICT = 4
NOT_VALID = 5
TRY_AGAIN = 6
NO_SPACE = 7
BAD_SETTINGS = 78

EXITS: dict[str, int] = {
    "backup_not_found": NOT_THERE,
    "event_not_found": NOT_THERE,
    "undo_not_found": NOT_THERE,
    "nothing_to_undo": NOT_THERE,
    "nothing_to_recover": NOT_THERE,
    "moment_unavailable": NOT_THERE,
    "database_missing": NOT_THERE,
    "database_present": CONFLICT,
    "service_running": CONFLICT,
    "backup_exists": CONFLICT,
    "backup_protected": CONFLICT,
    "restore_running": CONFLICT,
    "generation_left_behind": CONFLICT,
    "partition_not_stopped": CONFLICT,
    "forbidden": CONFLICT,
    "malformed": NOT_VALID,
    "invalid": NOT_VALID,
    "too_large": NOT_VALID,
    "unsupported_media_type": NOT_VALID,
    "archive_damaged": NOT_VALID,
    "archive_incomplete": NOT_VALID,
    "archive_unsafe": NOT_VALID,
    "archive_alien": NOT_VALID,
    "archive_too_new": NOT_VALID,
    "archive_unreadable": TRY_AGAIN,
    "journal_damaged": NOT_VALID,
    "database_damaged": NOT_VALID,
    "database_too_new": NOT_VALID,
    "database_locked": TRY_AGAIN,
    "store_unavailable": TRY_AGAIN,
    "store_stopping": TRY_AGAIN,
    "restoring": TRY_AGAIN,
    "too_busy": TRY_AGAIN,
    "cancelled": TRY_AGAIN,
    "backups_unavailable": TRY_AGAIN,
    "journal_failed": TRY_AGAIN,
    "write_failed": TRY_AGAIN,
    "kafka_unreachable": TRY_AGAIN,
    "kafka_not_configured": BAD_SETTINGS,
    "no_space": NO_SPACE,
    "invalid_settings": BAD_SETTINGS,
    "internal_error": FAILED,
    "database_error": FAILED,
}
"""Code → exit status. 2 is what click ends with where the command line itself is wrong."""


def answer(work: Callable[[], dict[str, Any]], say: Callable[[dict[str, Any]], str], *, as_json: bool) -> None:
    """Do the work and print what it gives: as JSON, or as `say` puts it. Ends the process where it fails."""
    try:
        done = work()
    except EventVaultError as error:
        fail(error, as_json=as_json)
    click.echo(_json({"success": True, **done}) if as_json else say(done))


def fail(error: EventVaultError, *, as_json: bool) -> NoReturn:
    if as_json:
        click.echo(_json(shape(error.code, error.message, error.hint, error.details)))
    else:
        click.echo(f"{error.message}\nHINT: {error.hint}", err=True)
    sys.exit(EXITS.get(error.code, FAILED))


def _json(payload: dict[str, Any]) -> str:
    return orjson.dumps(payload, default=str).decode()
