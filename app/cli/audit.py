"""`flask audit`: shows who did what, and with what result. It also checks that nobody changed these lines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import click
import msgspec

from app.cli import exits, text
from app.cli.connection import current_settings, current_store
from app.cli.group import Group
from app.cli.moments import InstantType
from app.cli.options import json_option, utc_option
from app.store_retry import retry_while_store_is_away
from eventvault import clock
from eventvault.audit.lines import BEGUN, ENDED, AuditLine
from eventvault.audit.reading import MAX_PAGE
from eventvault.audit.verification import Verified, verify
from eventvault.damage import as_answer
from eventvault.errors import AuditBroken, BackupsUnavailable
from eventvault.printable import printable

group = Group("audit", help="What was done, and who did it.")

SHOWN = 50


class _Deed(NamedTuple):
    """A deed. begun, ended: None if the line is missing or was not read. again: a later store repeated it."""

    begun: AuditLine | None
    ended: AuditLine | None
    again: bool = False

    @property
    def line(self) -> AuditLine:
        line = self.begun or self.ended
        assert line is not None, "a deed has a line"
        return line


@group.command("show")
@click.option("--since", type=InstantType(), help='Only what was done since then: 2026-11-28, "7 d ago".')
@click.option("--action", help="Only this, such as restore or delete.")
@click.option("--who", help="Only what this token did, or open, shell, schedule or start.")
@click.option("--limit", default=SHOWN, type=click.IntRange(1, 100_000), help=f"How many. Default: {SHOWN}.")
@utc_option
@json_option
def show(*, since: int | None, action: str | None, who: str | None, limit: int, utc: bool, as_json: bool) -> None:
    """What was done, newest first."""

    def is_wanted(deed: _Deed) -> bool:
        return action in (None, deed.line.action) and who in (None, deed.line.who)

    with exits.reporting_errors(as_json=as_json):
        deeds = []
        for deed in _deeds(since):
            if is_wanted(deed):
                deeds.append(deed)
            if len(deeds) == limit:
                break
    exits.print_result(
        {"deeds": [_deed_json(deed) for deed in deeds]},
        lambda _: _describe(deeds, text.Times(utc=utc)),
        as_json=as_json,
    )


@group.command("verify")
@json_option
def verify_chain(*, as_json: bool) -> None:
    """Check that no line was changed, removed or cut off; needs no service. Exit: 1 if one was, and names the first."""
    exits.run_and_print(lambda: msgspec.to_builtins(_verify()), _describe_verified, as_json=as_json)


def _verify() -> Verified:
    settings = current_settings()
    try:
        verified = verify(settings.storage_dir, settings.backup_dir)
    except OSError as error:
        raise as_answer("reading the audit", error, BackupsUnavailable) from error
    if verified.bad is not None:
        raise AuditBroken(
            f"the audit is not as it was written: {verified.bad}",
            hint="compare it with a copy of BACKUP_DIR from another place; nothing here can bring a line back",
        )
    return verified


def _describe_verified(verified: dict[str, Any]) -> str:
    lines, files = text.counted(verified["lines"], "line"), text.counted(verified["files"], "file")
    sentences = [f"{lines} in {files}: the chain is whole."]
    if verified["waiting"]:
        sentences.append(f"{text.counted(verified['waiting'], 'line')} in STORAGE_DIR until BACKUP_DIR can be written.")
    if verified["torn"]:
        sentences.append("The last line was torn by a kill; the next start completes and names it.")
    if verified["noted"] is None and verified["lines"]:
        sentences.append("STORAGE_DIR does not say how many there were, so lines that are cut off do not show.")
    return "\n".join(sentences)


def _deeds(since: int | None) -> Iterator[_Deed]:
    """Yield the deeds, newest first, up to the first line that is older than `since`."""
    store = current_store()
    ended: dict[str, AuditLine] = {}
    begun: set[tuple[str, str]] = set()
    for line in _newest_first(store):
        if since is not None and clock.parse(line.at) < since:
            return
        if line.state == ENDED:
            ended[line.operation] = line
        elif line.state == BEGUN:
            deed = line.operation, line.action
            yield _Deed(line, ended.pop(line.operation, None), deed in begun)
            begun.add(deed)
        else:
            yield _Deed(line, line)


def _newest_first(store: Any) -> Iterator[AuditLine]:
    before = retry_while_store_is_away(lambda: store.read_audit(after=0, limit=1)).last + 1
    while before > 1:
        after = max(0, before - 1 - MAX_PAGE)
        page = store.read_audit(after=after, limit=MAX_PAGE)
        yield from (line for line in reversed(page.lines) if line.line < before)
        before = after + 1


def _deed_json(deed: _Deed) -> dict[str, Any]:
    line, ended = deed.line, deed.ended
    return {
        "at": line.at,
        "endedAt": None if ended is None else ended.at,
        "operation": line.operation,
        "who": line.who,
        "action": line.action,
        "target": line.target,
        "result": ended.result if ended is not None else "begun again" if deed.again else None,
        "details": {**line.details, **(ended.details if ended is not None else {})},
    }


def _describe(deeds: list[_Deed], times: text.Times) -> str:
    if not deeds:
        return "Nothing like that is in the audit."
    rows = [
        (
            times.second(clock.parse(deed.line.at)),
            deed.line.who,
            deed.line.action,
            deed.line.target or "",
            _result(deed),
        )
        for deed in deeds
    ]
    return text.table((f"TIME ({times.zone})", "WHO", "ACTION", "TARGET", "RESULT"), rows)


def _result(deed: _Deed) -> str:
    if deed.ended is None:
        return "begun again" if deed.again else "not ended"
    details = deed.ended.details
    words = [deed.ended.result or "", *([details["code"]] if "code" in details else [])]
    if "leftBehind" in details:
        words.append(f"{text.counted(details['leftBehind'], 'event')} set aside")
    if isinstance(details.get("removed"), list):
        words.append(f"{text.counted(len(details['removed']), 'backup')} removed")
    return printable(", ".join(str(word) for word in words if word))
