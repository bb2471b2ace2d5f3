"""Makes one message of all changes within a minute."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from eventvault import clock
from eventvault.notifications.values import Change, Condition, Kind, Message

MOST_SHOWN = 10
"""One message shows at most so many changes of a kind."""


def compose(
    changes: Sequence[Change], open_conditions: Sequence[Condition], *, health: str, host: str, at: int, addresses: int
) -> Message:
    """Return the message. health: its status. host: the name of this machine. addresses: how many get the message."""
    began, ended, restored = (
        [change for change in changes if change.kind == kind] for kind in ("began", "ended", "restored")
    )
    body = [
        *_section("Problems", began, _describe_problem),
        *_section("Over", ended, _describe_end),
        *_section("Restored", restored, lambda change: [f"- {change.text} ({_time(change.since)})"]),
        _state(open_conditions, health),
    ]
    open_codes = {condition.code for condition in open_conditions}
    lasting = [change for change in began if change.code in open_codes]
    title = f"EventVault on {host}: {_subject(lasting, ended, restored)}"
    kind: Kind = "failure" if lasting else "success" if ended else "info"
    return Message(kind, title, "\n".join(body), at, tuple(range(addresses)))


def trial_message(host: str, at: int, addresses: int) -> Message:
    body = f"This is a test of NOTIFY_URLS, sent at {_time(at)}. Nothing is wrong."
    return Message("info", f"EventVault on {host}: test", body, at, tuple(range(addresses)))


def _subject(began: Sequence[Change], ended: Sequence[Change], restored: Sequence[Change]) -> str:
    parts = [
        _words(began, "{}", "{} problems"),
        _words(ended, "{} is over", "{} problems are over"),
        _words(restored, "restored", "{} restores"),
    ]
    return ", ".join(part for part in parts if part)


def _words(changes: Sequence[Change], one: str, several: str) -> str:
    codes = {change.code for change in changes}
    if len(codes) == 1 or len(changes) == 1:
        return one.format(changes[0].code.replace("_", " "))
    return several.format(len(changes)) if changes else ""


def _section(title: str, changes: Sequence[Change], describe: Callable[[Change], Iterable[str]]) -> list[str]:
    if not changes:
        return []
    lines = [line for change in changes[:MOST_SHOWN] for line in describe(change)]
    more = [f"- and {len(changes) - MOST_SHOWN} more"] if len(changes) > MOST_SHOWN else []
    return [f"{title}:", *lines, *more, ""]


def _describe_problem(change: Change) -> list[str]:
    hint = [f"  → {change.hint}"] if change.hint else []
    return [f"- {change.code}, since {_time(change.since)}: {change.text}", *hint]


def _describe_end(change: Change) -> list[str]:
    return [f"- {change.code}, from {_time(change.since)} to {_time(change.at)}: {change.text}"]


def _state(open_conditions: Sequence[Condition], health: str) -> str:
    if not open_conditions:
        return f"Health is {health}. No problem is open."
    codes = ", ".join(sorted({condition.code for condition in open_conditions}))
    return f"Health is {health}. Open problems: {len(open_conditions)} ({codes}). GET /api/health shows them."


def _time(at: int) -> str:
    return clock.format_milliseconds(at)
