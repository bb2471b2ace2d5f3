"""`flask doctor`: checks everything, and says what to do about what is wrong. It changes nothing."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from functools import partial

import click

from app.cli import connection, exits, text
from app.cli.doctor.checks import all_lines
from app.cli.doctor.line import DoctorLine
from app.cli.doctor.report import report
from app.cli.group import Command
from app.cli.options import json_option, utc_option
from app.cli.owner import become_owner
from app.cli.program import in_words_of_program
from eventvault import __version__, environment
from eventvault.doctor.facts import Facts
from eventvault.doctor.gather import LoadedSettings, gather, load_settings
from eventvault.exit_statuses import FAILED
from eventvault.printable import printable
from eventvault.settings import PROJECT, SECRETS, Settings

_MARKS = {"ok": " ok   ", "warn": " warn ", "wrong": " WRONG"}
_NAME_WIDTH = 13


@click.command("doctor", cls=Command)
@utc_option
@json_option
def doctor(*, utc: bool, as_json: bool) -> None:
    """Check everything, with and without a running service; exit 1 if something is wrong.

    Nothing is changed. With --json it prints what a support request should carry: no events and no secrets.
    """
    with exits.reporting_errors(as_json=as_json):
        facts = _gather()
    lines = all_lines(facts, text.Times(utc=utc))
    exits.print_result(
        report(facts, lines),
        lambda _: in_words_of_program(_describe(facts, lines, text.Times(utc=utc))),
        as_json=as_json,
    )
    if any(line.state == "wrong" for line in lines):
        sys.exit(FAILED)


def _gather() -> Facts:
    """Gather the facts. What the core logs meanwhile is not shown, because the checks find it."""
    logging.getLogger().addHandler(logging.NullHandler())
    context = click.get_current_context()
    settings = connection.settings_of_caller()
    if settings is not None:
        return gather(LoadedSettings(settings))
    found = load_settings()
    environment.hide(SECRETS)
    return gather(found, check_user=partial(_become_user, found.settings, context))


def _become_user(settings: Settings | None, context: click.Context) -> None:
    """Become the owner of the folders. context: of the command, from which hints take the name of the program."""
    if settings is not None:
        with context.scope(cleanup=False):
            become_owner(settings)
            connection.check_user(settings)


def _describe(facts: Facts, lines: Sequence[DoctorLine], times: text.Times) -> str:
    shown = [f"EventVault {__version__}, {PROJECT}, {times.minute(facts.at)} {times.zone}", ""]
    for line in lines:
        shown += _describe_line(line)
    if facts.last_words and facts.status is None:
        shown += ["", "How the last store died:", *(f"  {printable(words)}" for words in facts.last_words.splitlines())]
    return "\n".join([*shown, "", _summary(lines)])


def _describe_line(line: DoctorLine) -> list[str]:
    head = f"{_MARKS[line.state]} {line.name:{_NAME_WIDTH}} "
    indent = " " * len(head)
    found, *more = text.fold(line.found, len(head))
    rows = [head + found, *(indent + rest for rest in more)]
    if line.mend is not None:
        arrow = text.sign("→", "->")
        first, *others = text.fold(line.mend, len(head) + len(arrow) + 1)
        rows += [f"{indent}{arrow} {first}", *(f"{indent}{' ' * len(arrow)} {rest}" for rest in others)]
    return rows


def _summary(lines: Sequence[DoctorLine]) -> str:
    bad, warnings = (sum(line.state == state for line in lines) for state in ("wrong", "warn"))
    if not bad and not warnings:
        return "Nothing is wrong."
    parts = [f"{bad} wrong"] if bad else []
    return ", ".join([*parts, *([text.counted(warnings, "warning")] if warnings else [])]) + "."
