"""What the reading threads of the dispatcher's transport and its owner tell each other, and what they hand over."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from eventvault.jobs.messages import Report
from eventvault.jobs.transport import Position
from eventvault.kafka.offsets import StoredOffset


class ReadReport(NamedTuple):
    """A report, and the position after it; the owner adds the newest tick."""

    report: Report
    position: Position


class CaughtUp(NamedTuple):
    """The end of the reports was reached for the first time. is_late: there were more before that were not read."""

    is_late: bool


class Trouble(NamedTuple):
    """What is wrong, for health."""

    code: str
    message: str
    hint: str


@dataclass
class ReaderState:
    """Each member is set by one thread and read by others.

    By the owner: may_take, whether messages of `jobs` may be read; written, the offset of each partition of `jobs`
    before which all is written; accepts, whether losses are accepted, which the reader resets. By a reading thread:
    reports, behind the report that was read last; is_late, as in CaughtUp; has_caught_up, whether that was handed over;
    jobs, where the next message of each partition is; is_connected, whether brokers answered to the newest request;
    work_partitions, how many `jobs.work` has, as far as is known;
    invalid, how many reports were none; troubles, by what they are about; losses, those that stay until they are
    accepted.
    """

    reports: Position | None
    jobs: dict[int, StoredOffset]
    is_late: bool = False
    has_caught_up: bool = False
    may_take: bool = False
    written: dict[int, int] = field(default_factory=dict)
    accepts: bool = False
    is_connected: bool = False
    work_partitions: int = 0
    invalid: int = 0
    troubles: dict[str, Trouble] = field(default_factory=dict)
    losses: dict[str, Trouble] = field(default_factory=dict)
