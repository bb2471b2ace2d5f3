"""`flask tokens`: makes, lists, replaces and revokes tokens, while the service runs and while it does not."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from app.cli import connection, exits, text
from app.cli.group import Group
from app.cli.options import ask_for, json_option, require_answer, utc_option, yes_option
from app.cli.program import in_words_of_program
from app.tokens.answers import disabled_json, ended_json, made_json
from eventvault import clock, scopes
from eventvault.errors import EventVaultError
from eventvault.operations.caller import SHELL

if TYPE_CHECKING:
    from app.cli.remote.tokens import RemoteTokens
    from eventvault.access.changes import TokenChanges

group = Group("tokens", help="Who may use the service.")
_SHOWN_ONCE = "This token is not shown again."
_READS_ALL = "A download holds every event."
_REVOKED_HERE_ALONE = " Until it is, a recovery of a lost STORAGE_DIR makes what it revokes valid again."
_NO_TOKEN = "There is no token. The first one closes the service: flask tokens create admin --scope admin"
_NONE_IS_VALID = (
    "No token is valid any more, and the service stays closed: flask tokens create admin --scope admin makes one."
)


def _changes() -> TokenChanges | RemoteTokens:
    return connection.current_connection().tokens


@group.command("create")
@click.argument("name")
@click.option("--scope", required=True, help=f"One or more of {', '.join(scopes.SCOPES)}, joined by +.")
@click.option("--expires", metavar="SPAN", help="When it ends: 12h, 90d, 8w, or an instant. Default: never.")
@json_option
@utc_option
def create(*, name: str, scope: str, expires: str | None, as_json: bool, utc: bool) -> None:
    """Make a token, and print it once on standard output. It is valid within a second.

    From the first one on, the service is closed: each request needs a token.
    """
    with exits.reporting_errors(as_json=as_json):
        was_closed = _changes().is_closed()
        made = made_json(_changes().create(name, scope, by=SHELL, expires=expires))
    closing = [] if was_closed else ["The service is closed from now on: each request needs a token."]
    reads_all = [] if "backup" not in made["scope"].split("+") else [_READS_ALL]
    _print_made(made, [_what_it_may(made, text.Times(utc=utc)), *closing, *reads_all], as_json=as_json)


@group.command("rotate")
@click.argument("name")
@click.option("--now", "at_once", is_flag=True, help="End the old one at once, as when it has leaked.")
@json_option
def rotate(*, name: str, at_once: bool, as_json: bool) -> None:
    """Make a new token in the place of NAME, which works for another hour."""
    with exits.reporting_errors(as_json=as_json):
        made = made_json(_changes().rotate(name, by=SHELL, at_once=at_once))
    old = made["previous"]["id"]
    ends = (
        f"The old one, {old}, is revoked."
        if at_once
        else in_words_of_program(f"The old one works for another hour: flask tokens revoke {old} ends it now.")
    )
    _print_made(made, [ends], as_json=as_json, unwritten=_REVOKED_HERE_ALONE if at_once else "")


@group.command("list")
@json_option
@utc_option
def list_tokens(*, as_json: bool, utc: bool) -> None:
    """Show the tokens that were not revoked, without the tokens themselves."""
    exits.run_and_print(
        lambda: {"tokens": _changes().list_tokens()},
        lambda done: _table(done["tokens"], text.Times(utc=utc)) if done["tokens"] else _without_tokens(),
        as_json=as_json,
    )


@group.command("revoke")
@click.argument("token_id", metavar="ID")
@json_option
def revoke(*, token_id: str, as_json: bool) -> None:
    """End a token for good: within a second no request with it is served. ID is as `list` shows it."""
    with exits.reporting_errors(as_json=as_json):
        ended = ended_json(_changes().revoke(token_id, by=SHELL))
    exits.print_result(
        ended,
        lambda done: (
            f"{done['name']} ({done['id']}) is revoked: no request and no open stream of it is served from now on."
        ),
        as_json=as_json,
    )
    _warn_of_copy(ended, _REVOKED_HERE_ALONE, as_json=as_json)
    with suppress(EventVaultError):  # over HTTP the token that ended may have been the command's own
        if not as_json and all(token["expired"] for token in _changes().list_tokens()):
            click.echo(in_words_of_program(_NONE_IS_VALID), err=True)


@group.command("disable")
@yes_option
@json_option
def disable(*, yes: bool, as_json: bool) -> None:
    """Revoke all tokens and open the service to everybody who reaches it."""
    if not yes:
        with exits.reporting_errors(as_json=as_json):
            _changes().require_openable()
            is_open = not _changes().is_closed()
        if is_open:
            nothing = "EventVault is open already: there is no token."
            exits.print_result({"revoked": []}, lambda _: nothing, as_json=as_json)
            return
        _confirm_opening(as_json=as_json)
    with exits.reporting_errors(as_json=as_json):
        ended = disabled_json(_changes().disable(by=SHELL))
    exits.print_result(
        ended,
        lambda done: f"EventVault is open. {text.counted(len(done['revoked']), 'token')} revoked.",
        as_json=as_json,
    )
    _warn_of_copy(ended, _REVOKED_HERE_ALONE, as_json=as_json)


def _confirm_opening(*, as_json: bool) -> None:
    """Print what becomes open to whom, and ask for the word."""
    require_answer(yes=False, as_json=as_json)
    settings = connection.current_settings()
    tokens = text.counted(sum(token["from"] != "API_TOKENS" for token in _changes().list_tokens()), "token")
    click.echo(
        f"This opens EventVault to everybody who reaches {settings.host}:{settings.port}. "
        f"{tokens} {'is' if tokens.startswith('1 ') else 'are'} revoked.",
        err=True,
    )
    ask_for("open", "open")


def _print_made(made: dict[str, Any], notes: list[str], *, as_json: bool, unwritten: str = "") -> None:
    """Print the token alone on standard output, and all else on standard error.

    unwritten: the consequence if the copy in BACKUP_DIR is not written.
    """
    exits.print_result(made, lambda done: str(done["token"]), as_json=as_json)
    if not as_json:
        first, *others = notes
        click.echo(text.safe("\n".join([first, " ".join([*others, _SHOWN_ONCE])])), err=True)
    _warn_of_copy(made, unwritten, as_json=as_json)


def _warn_of_copy(done: dict[str, Any], consequence: str, *, as_json: bool) -> None:
    problem = done.get("copyProblem")
    if problem and not as_json:
        click.echo(text.safe(f"The copy in BACKUP_DIR is not written yet: {problem}.{consequence}"), err=True)


def _what_it_may(made: dict[str, Any], times: text.Times) -> str:
    granted = [scope for scope in scopes.SCOPES if scope in scopes.parse(made["scope"])]
    may = ", and ".join(scopes.MEANINGS[scope] for scope in granted)
    until = "" if made["expires"] is None else f" until {times.second(clock.parse(made['expires']))[:10]}"
    return f"{made['name']} may {may}{until}."


def _table(tokens: list[dict[str, Any]], times: text.Times) -> str:
    rows = [
        (
            token["id"],
            token["name"],
            token["scope"],
            _end(token, times),
            _day(token["lastUsed"], times),
            token["from"],
        )
        for token in tokens
    ]
    return text.table(("ID", "NAME", "SCOPE", "EXPIRES", "LAST USED", "FROM"), rows)


def _without_tokens() -> str:
    """Return what to do where there is no token: none was ever made, or the service stays closed without one."""
    return in_words_of_program(_NONE_IS_VALID if _changes().is_closed() else _NO_TOKEN)


def _end(token: dict[str, Any], times: text.Times) -> str:
    if token["expires"] is None:
        return "never"
    if token["expired"]:
        return "is over"
    day = _day(token["expires"], times)
    return f"today {times.minute(clock.parse(token['expires']))[11:]}" if day == "today" else day


def _day(instant: str | None, times: text.Times) -> str:
    if instant is None:
        return "never"
    day = times.minute(clock.parse(instant))[:10]
    return "today" if day == times.minute(clock.now())[:10] else day
