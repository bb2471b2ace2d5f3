"""`flask problems`: lists the problems of health, and accepts one that waits for a decision."""

from __future__ import annotations

import time
from typing import Any

import click

from app.cli import exits, text
from app.cli.connection import current_store
from app.cli.doctor.mends import about_of, mend_of
from app.cli.group import Group
from app.cli.options import ask, json_option, require_answer, utc_option, yes_option
from app.cli.program import in_words_of_program
from app.store_retry import retry_while_store_is_away
from eventvault import clock
from eventvault.errors import NothingToAccept
from eventvault.problems import CONSEQUENCES

group = Group("problems", help="Problems, and decisions about them.")

_START_SECONDS = 60.0
"""Seconds that a command waits for a store that starts or restores; then it shows what health says meanwhile."""


@group.command("list")
@utc_option
@json_option
def list_problems(*, utc: bool, as_json: bool) -> None:
    """What health says, what to do about it, and which of it waits for a decision."""
    exits.run_and_print(
        lambda: {"problems": _problems()},
        lambda found: in_words_of_program(_describe(found["problems"], text.Times(utc=utc))),
        as_json=as_json,
    )


@group.command("accept")
@click.argument("code")
@click.option("--about", help="Which one, if several have the code: as `list` shows it.")
@yes_option
@json_option
def accept(*, code: str, about: str | None, yes: bool, as_json: bool) -> None:
    """Accept a problem that waits for a decision; health then no longer names it."""
    if not yes:
        with exits.reporting_errors(as_json=as_json):
            _confirm(code, about, as_json=as_json)
    exits.run_and_print(lambda: _accept(code, about), _describe_accepted, as_json=as_json)


def _confirm(code: str, about: str | None, *, as_json: bool) -> None:
    """Show what would be accepted, and ask. An invalid choice is left to the store, which says why."""
    chosen = [
        problem
        for problem in _problems()
        if problem["code"] == code and about in (None, about_of(problem)) and problem.get("acceptable")
    ]
    if len(chosen) == 1:
        require_answer(yes=False, as_json=as_json)
        click.echo(text.safe(f"{chosen[0]['message']}\nIf you accept this, {CONSEQUENCES[code]}."), err=True)
        ask("Accept it?")
        return
    current_store().accept_problem(code, about)
    raise NothingToAccept(f"{code} was accepted just now")


def _problems() -> list[dict[str, Any]]:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        status = retry_while_store_is_away(current_store().status)
        if status["store"]["state"] not in ("starting", "restoring") or time.monotonic() > deadline:
            problems: list[dict[str, Any]] = status["problems"]
            return problems
        time.sleep(0.1)


def _accept(code: str, about: str | None) -> dict[str, Any]:
    problem = retry_while_store_is_away(lambda: current_store().accept_problem(code, about))
    return {
        "code": problem.code,
        "about": problem.about,
        "message": problem.message,
        "consequence": CONSEQUENCES[problem.code],
    }


def _describe_accepted(accepted: dict[str, Any]) -> str:
    return f"Accepted: {accepted['message']}.\nSo {accepted['consequence']}."


def _describe(problems: list[dict[str, Any]], times: text.Times) -> str:
    """Return a table, with what to do about each problem below it."""
    if not problems:
        return "No problems."
    since = [_since(problem, times) for problem in problems]
    widths = (max(len("CODE"), *(len(problem["code"]) for problem in problems)), max(len("SINCE"), *map(len, since)))
    indent = sum(widths) + 4
    lines = [f"{'CODE':{widths[0]}}  {'SINCE':{widths[1]}}  WHAT"]
    for problem, day in zip(problems, since, strict=True):
        what, *more = text.fold(problem["message"], indent)
        mend, *others = text.fold(mend_of(problem), indent + 2)
        lines.append(f"{problem['code']:{widths[0]}}  {day:{widths[1]}}  {what}")
        lines += [" " * indent + rest for rest in more]
        lines += [f"{' ' * indent}{text.sign('→', '>')} {mend}", *(f"{' ' * indent}  {rest}" for rest in others)]
    return "\n".join(lines)


def _since(problem: dict[str, Any], times: text.Times) -> str:
    """Return `today 9:12`, or the day and the time."""
    since = problem.get("since")
    if since is None:
        return text.sign("–", "-")
    shown = times.of_day(clock.parse(since), clock.now())
    return f"today {shown}" if len(shown) == len("21:27") else shown
