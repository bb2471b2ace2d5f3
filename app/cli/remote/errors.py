"""The errors of a command over HTTP, reported like the same errors without `--url`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.error_codes import ANSWERS
from eventvault import errors
from eventvault.errors import EventVaultError
from eventvault.exit_statuses import CONFLICT, FAILED, INVALID, NO_SPACE, NOT_FOUND, TRY_AGAIN, USAGE

_LONGEST_TEXT = 4000
"""Characters of a message or a hint that a service sent."""
_OF_THE_BODY = frozenset({"success", "code", "error", "hint", "message", "self"})
_REPEATED_BY_COMMANDS = (errors.StoreUnavailable, errors.StoreRestoring)
"""Errors after which commands try again. Over HTTP the transport has done so before it raises one of them."""
_BY_STATUS = {401: CONFLICT, 403: CONFLICT, 404: NOT_FOUND, 408: TRY_AGAIN, 409: CONFLICT, 429: TRY_AGAIN,
              502: TRY_AGAIN, 503: TRY_AGAIN, 504: TRY_AGAIN, 507: NO_SPACE}  # fmt: skip
"""HTTP status → exit status, where the code says nothing."""
_HINTS = {
    "token_missing": "set EVENTVAULT_TOKEN, or EVENTVAULT_TOKEN_FILE to a file that holds the token; on the machine of "
    "the service `flask tokens create NAME --scope read` makes one",
    "token_wrong": "set EVENTVAULT_TOKEN to a valid one; on the machine of the service `flask tokens list` shows them",
}
"""Code → what to do, where the service's advice is about headers."""


class RemoteError(EventVaultError):
    """An error that has its own code and exit status."""

    def __init__(self, code: str, exit_status: int, message: str, *, hint: str, **details: Any) -> None:
        super().__init__(message, hint=hint, **details)
        self.code = code  # type: ignore[misc]  # other errors have it as an attribute of their class
        self.exit_status = exit_status


def unreachable(address: object, why: str) -> RemoteError:
    return RemoteError(
        "service_unreachable",
        TRY_AGAIN,
        f"no EventVault answers at {address}: {why}",
        hint="see whether the service runs, and whether --url or EVENTVAULT_URL is its address",
    )


def cut_off(address: object, what: str, why: str) -> RemoteError:
    return RemoteError(
        "service_unreachable",
        TRY_AGAIN,
        f"the connection to {address} broke off while {what}: {why}",
        hint="try again; nothing is half done",
    )


def unknown_outcome(address: object, what: str, why: str) -> EventVaultError:
    return errors.OutcomeUnknown(
        f"the connection to {address} broke off during {what} ({why}): it may have taken effect or not",
        hint="see whether it did before you try again",
    )


def certificate_refused(address: object, why: str) -> RemoteError:
    return RemoteError(
        "certificate_refused",
        INVALID,
        f"the certificate of {address} is not trusted: {why}",
        hint="name the file of its authority with --ca-file or SSL_CERT_FILE, or correct the address; nothing was sent",
    )


def redirected(address: object, location: str) -> RemoteError:
    to = f"to {location[:300]}" if location else "elsewhere"
    return RemoteError(
        "redirected",
        INVALID,
        f"{address} redirects {to}, and no redirect is followed, so that nobody else gets the token",
        hint="if that is the service, give it as --url or EVENTVAULT_URL",
    )


def unreadable(what: str, why: str) -> RemoteError:
    return RemoteError(
        "answer_unreadable",
        FAILED,
        f"the answer to {what} is not what this command expects: {why[:_LONGEST_TEXT]}",
        hint="see whether EventVault runs at this address, and whether it has the version of this command: "
        "GET /openapi.json has it",
    )


def error_of_another_program(address: object, what: str, status: int) -> RemoteError:
    """Return the error for an answer that EventVault did not send, but a proxy before it, or another program."""
    away = exit_status_of(status) == TRY_AGAIN
    return RemoteError(
        "service_unreachable" if away else "answer_unreadable",
        exit_status_of(status) if status >= 400 else FAILED,
        f"{address} answered {what} with {status}, and not as EventVault does",
        hint="a proxy before the service answers while that is down: try again in a moment, and see its log"
        if away
        else "see whether --url or EVENTVAULT_URL is the address of an EventVault, and what a proxy before it allows",
    )


def not_over_http(what: str) -> RemoteError:
    return RemoteError(
        "not_over_url", USAGE, f"{what} works only on the machine of the service", hint="run it there, without --url"
    )


def error_of_answer(what: str, status: int, body: Mapping[str, Any]) -> EventVaultError:
    """Return the error that a service answered, of the same class as without `--url`, if this version knows it."""
    code, message, hint = (_text(body.get(name)) for name in ("code", "error", "hint"))
    details = {name: value for name, value in body.items() if name not in _OF_THE_BODY}
    message, hint = message or f"{what} was answered with {status}", _HINTS.get(code, hint)
    declared = ANSWERS.get(code)
    if declared is not None and declared.exit_status is not None and code != "internal_error":
        error = errors.from_wire({"code": code, "message": message, "hint": hint, "details": details})
        if not isinstance(error, _REPEATED_BY_COMMANDS):
            return error
        return RemoteError(code, declared.exit_status, message, hint=hint, **details)
    return RemoteError(code or "http_error", exit_status_of(status), message, hint=hint, **details)


def may_pass(error: EventVaultError) -> bool:
    """Return whether the same request may succeed a moment later."""
    if isinstance(error, RemoteError):
        return error.exit_status == TRY_AGAIN
    declared = ANSWERS.get(error.code)
    return declared is not None and declared.exit_status == TRY_AGAIN


def exit_status_of(status: int) -> int:
    return _BY_STATUS.get(status, INVALID if 400 <= status < 500 else FAILED)


def _text(value: object) -> str:
    return value[:_LONGEST_TEXT] if isinstance(value, str) else ""
