"""`flask problems`: lists what health says, and accepts a problem that waits for a decision."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from app.cli import exits
from app.cli.connection import current_store
from app.cli.group import Group
from app.cli.program import program
from app.store_retry import retry_while_store_is_away
from eventvault.errors import InvalidInput, NothingToAccept
from eventvault.problems import CONSEQUENCES

group = Group("problems", help="Problems, and decisions about them.")

_START_SECONDS = 60.0
"""How long a command waits for a store that starts or restores; then it shows what health says meanwhile."""
_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object, also for errors.")


@group.command("list")
@_json_option
def list_problems(*, as_json: bool) -> None:
    """What health says, and which of it waits for a decision."""
    exits.run_and_print(lambda: {"problems": _problems()}, _describe, as_json=as_json)


@group.command("accept")
@click.argument("code")
@click.option("--about", help="Which one, if several have the code: as `list` shows it.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@_json_option
def accept(*, code: str, about: str | None, yes: bool, as_json: bool) -> None:
    """Accept a problem that waits for a decision; health then no longer names it."""
    if not yes and (as_json or not sys.stdin.isatty()):
        error = InvalidInput("this must be confirmed, and nobody can be asked; nothing was changed", hint="add --yes")
        exits.exit_with_error(error, as_json=as_json)
    if not yes:
        with exits.reporting_errors(as_json=as_json):
            _confirm(code, about)
    exits.run_and_print(lambda: _accept(code, about), _describe_accepted, as_json=as_json)


def _confirm(code: str, about: str | None) -> None:
    """Show what would be accepted, and ask. An invalid choice is left to the store, which says why."""
    for problem in _problems():
        if problem["code"] == code and about in (None, _name(problem)) and problem.get("acceptable"):
            click.echo(f"{problem['message']}\nIf you accept this, {CONSEQUENCES[code]}.", err=True)
            click.confirm("Accept it?", abort=True, err=True)
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


def _describe(found: dict[str, Any]) -> str:
    if not found["problems"]:
        return "No problems."
    codes = ["CODE", *(problem["code"] for problem in found["problems"])]
    dates = ["SINCE", *(_since(problem) for problem in found["problems"])]
    texts = ["WHAT", *(_text(problem) for problem in found["problems"])]
    code_width, date_width = max(map(len, codes)), max(map(len, dates))
    indent = "\n" + " " * (code_width + date_width + 4)
    rows = zip(codes, dates, texts, strict=True)
    return "\n".join(
        f"{code:{code_width}}  {date:{date_width}}  {text.replace(chr(10), indent)}" for code, date, text in rows
    )


def _since(problem: dict[str, Any]) -> str:
    return problem.get("since") or "-"


def _name(problem: dict[str, Any]) -> str | None:
    return problem["about"]["name"] if problem["about"] else None


def _text(problem: dict[str, Any]) -> str:
    lines = [problem["message"], f"→ {problem['hint']}"]
    if problem.get("acceptable"):
        name = _name(problem)
        about = f" --about {name}" if name is not None else ""
        lines[-1] += f", or: {program()} problems accept {problem['code']}{about}"
    return "\n".join(lines)
