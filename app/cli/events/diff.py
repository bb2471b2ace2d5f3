"""`flask events diff`: which events only one of two moments has, and which differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import click
import msgspec

from app.cli import exits, text
from app.cli.connection import current_store, other_store
from app.cli.events.diff_services import Side as Compared
from app.cli.events.diff_services import diff_pages
from app.cli.events.lines import flush, json_line, one_line, write
from app.cli.events.pages import resolve
from app.cli.moments import parse_moment
from app.cli.options import json_option, utc_option
from app.cli.watching import display
from app.store_retry import retry_while_store_is_away
from eventvault.backups import names
from eventvault.errors import InvalidInput
from eventvault.events.event import indexed_of
from eventvault.exit_statuses import FAILED
from eventvault.operations.operation import Progress
from eventvault.past.values import DiffPage, DiffQuery
from eventvault.printable import printable
from eventvault.restore.values import Moment
from eventvault.store.ports.event_log import Lease
from eventvault.store.ports.store import Store

_SHOWN_TYPES = 3
_NOW = "now"


class _Line(msgspec.Struct, frozen=True):
    """A line of a difference, as `eventvault.past.diff` describes it."""

    kind: str = msgspec.field(name="in")
    event: msgspec.Raw = msgspec.Raw(b"")
    one: msgspec.Raw = msgspec.field(name="from", default=msgspec.Raw(b""))
    other: msgspec.Raw = msgspec.field(name="to", default=msgspec.Raw(b""))


_line_of = msgspec.json.Decoder(_Line).decode


class MomentOrBackup(click.ParamType):
    """A moment, `now`, or the name of a backup; converts to a `Side`."""

    name = "moment"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Side:
        if isinstance(value, Side):
            return value
        written = str(value)
        if written == _NOW:
            return Side(written, Moment())
        if written.endswith(names.KNOWN_SUFFIXES):
            return Side(written, Moment(archive=written))
        try:
            return Side(written, parse_moment(written))
        except InvalidInput as error:
            self.fail(f"{error.message}; {error.hint}, now, or a backup's name", param, ctx)


class Side(NamedTuple):
    """One of the two moments. written: as it was typed."""

    written: str
    moment: Moment


@click.command("diff")
@click.argument("one", type=MomentOrBackup(), metavar="FROM")
@click.argument("other", type=MomentOrBackup(), metavar="TO")
@click.option("--to-url", help="TO is of this service, on any machine; its token: EVENTVAULT_TO_TOKEN.")
@click.option("--to-insecure", is_flag=True, help="Allow plain HTTP to --to-url.")
@click.option("--summary", is_flag=True, help="Count only.")
@click.option("--exit-code", is_flag=True, help="Exit 1 if there is a difference.")
@utc_option
@json_option
def diff(
    *, one: Side, other: Side, to_url: str | None, to_insecure: bool, summary: bool, exit_code: bool, utc: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """The events that only one of two moments has, and those that differ.

    FROM and TO are moments as `backup restore --at` takes them, now, or names of backups. With --to-url two services
    are compared, by the source and the id of their events: sequences may differ. With --json as
    GET /api/backup/diff answers: a JSON object on each line, the last of them a summary; with --summary that alone.
    """
    if to_insecure and to_url is None:
        raise click.UsageError("--to-insecure goes with --to-url")
    with exits.reporting_errors(as_json=as_json):
        store = current_store()
        store_of_other = store if to_url is None else other_store(to_url, insecure=to_insecure)
        query = DiffQuery(resolve(store, one.moment), resolve(store_of_other, other.moment))
        differences = _Differences(query, by_identity=to_url is not None)
        pages = (
            _pages(store, query)
            if to_url is None
            else diff_pages(Compared(store, query.one), Compared(store_of_other, query.other))
        )
        shown = _Writer(text.Times(utc=utc), as_json=as_json)
        with display("Comparing", quiet=as_json or not summary) as show:
            for page in pages:
                differences.add(page)
                show(Progress(step=f"{differences.count:,} differences"))
                if not summary:
                    shown.lines(page.lines)
        if as_json and not summary:
            shown.summary(differences.as_json())
    if summary or not as_json:
        exits.print_result(
            differences.as_json(), lambda _: _describe(one.written, other.written, differences), as_json=as_json
        )
    if exit_code and differences.count:
        raise SystemExit(FAILED)


class _Differences:
    """Counts the differences, also by type."""

    def __init__(self, query: DiffQuery, *, by_identity: bool) -> None:
        self._query = query
        self.by_identity = by_identity
        self.common = 0
        self.only_one = self.only_other = self.different = 0
        self.types: dict[str, Counter[str]] = {"from": Counter(), "to": Counter(), "both": Counter()}

    @property
    def count(self) -> int:
        return self.only_one + self.only_other + self.different

    def add(self, page: DiffPage) -> None:
        self.common = page.common
        self.only_one += page.only_one
        self.only_other += page.only_other
        self.different += page.different
        for line in map(_line_of, page.lines):
            self.types[line.kind][indexed_of(bytes(line.one if line.kind == "both" else line.event)).type] += 1

    def as_json(self) -> dict[str, Any]:
        return {
            "from": {"generation": self._query.one.generation_id, "sequence": self._query.one.sequence},
            "to": {"generation": self._query.other.generation_id, "sequence": self._query.other.sequence},
            "common" if self.by_identity else "commonSequence": self.common,
            "onlyInFrom": self.only_one,
            "onlyInTo": self.only_other,
            "different": self.different,
        }


class _Writer:
    """Writes the differences: `-` before an event that only the first moment has, `+` if only the second one has it."""

    def __init__(self, times: text.Times, *, as_json: bool) -> None:
        self._times = times
        self._as_json = as_json

    def lines(self, lines: list[bytes]) -> None:
        for line in lines:
            if self._as_json:
                write(json_line(line) + b"\n")
            else:
                for sign, value in _events_with_sign(_line_of(line)):
                    write(f"{sign} {one_line(value, self._times)}\n".encode())
        flush()

    def summary(self, summary: dict[str, Any]) -> None:
        write(msgspec.json.encode({"in": "summary", **summary}) + b"\n")
        flush()


def _events_with_sign(line: _Line) -> Iterator[tuple[str, bytes]]:
    match line.kind:
        case "from":
            yield "-", bytes(line.event)
        case "to":
            yield "+", bytes(line.event)
        case _:
            yield "<", bytes(line.one)
            yield ">", bytes(line.other)


def _pages(store: Store, query: DiffQuery) -> Iterator[DiffPage]:
    with (
        store.lease_generation(query.one.generation) as one,
        store.lease_generation(query.other.generation) as other,
    ):
        at: tuple[int, int] | None = None
        while True:
            page = retry_while_store_is_away(partial(_page, store, (one, other), query, at))
            yield page
            at = page.next
            if at is None:
                return


def _page(store: Store, leases: tuple[Lease, Lease], query: DiffQuery, at: tuple[int, int] | None) -> DiffPage:
    for lease in leases:
        lease.renew()
    return store.diff(msgspec.structs.replace(query, at=at))


def _describe(one: str, other: str, differences: _Differences) -> str:
    rows = [
        (f"only in {one}", text.number(differences.only_one), _types(differences.types["from"])),
        (f"only in {other}", text.number(differences.only_other), _types(differences.types["to"])),
        ("different", text.number(differences.different), _types(differences.types["both"])),
    ]
    width = max(len(printable(name)) for name, _, _ in rows)
    digits = max(len(count) for _, count, _ in rows)
    lines = [f"{printable(name):{width}}  {count:>{digits}}   {types}".rstrip() for name, count, types in rows]
    first = "" if differences.by_identity else "the first "
    shared = "share no event" if not differences.common else f"share {first}{text.counted(differences.common, 'event')}"
    return "\n".join([*lines, f"both {shared}"])


def _types(counter: Counter[str]) -> str:
    most = [f"{count:,} {printable(name)}" for name, count in counter.most_common(_SHOWN_TYPES)]
    if len(counter) > _SHOWN_TYPES:
        others = len(counter) - _SHOWN_TYPES
        most.append(f"{others:,} more {'type' if others == 1 else 'types'}")
    return ", ".join(most)
