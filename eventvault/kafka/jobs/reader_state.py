"""What the reading threads of the dispatcher's transport and its owner tell each other, and what they hand over."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from eventvault.jobs.messages import Report
from eventvault.jobs.transport import Loss, Position
from eventvault.kafka.offsets import StoredOffset
from eventvault.problems import Problem

MOST_LOSSES = 100


class ReadReport(NamedTuple):
    """A report, and the position after it; the owner adds the newest tick."""

    report: Report
    position: Position


class CaughtUp(NamedTuple):
    """The end of the reports was reached for the first time. is_late: there were more before that were not read."""

    is_late: bool


@dataclass
class ReaderState:
    """Each member is set by one thread and read by others.

    By the owner: may_take, whether messages of `jobs` may be read; written, the offset of each partition of `jobs`
    before which all is written; accepted, of which stopped partitions the loss is accepted, which the reader takes out.
    By a reading thread:
    reports, behind the report that was read last; is_late, as in CaughtUp; has_caught_up, whether that was handed over;
    jobs, where the next message of each partition is; is_connected, whether brokers answered to the newest request;
    work_partitions, how many `jobs.work` has, as far as is known;
    invalid, how many reports were none; troubles, by what they are about; stopped, the partitions of `jobs` that wait
    until somebody accepts what they lost; losses, by their places, of partitions that go on: they stay until then too.
    """

    reports: Position | None
    jobs: dict[int, StoredOffset]
    is_late: bool = False
    has_caught_up: bool = False
    may_take: bool = False
    written: dict[int, int] = field(default_factory=dict)
    accepted: dict[str, Problem] = field(default_factory=dict)
    is_connected: bool = False
    work_partitions: int = 0
    invalid: int = 0
    troubles: dict[str, Problem] = field(default_factory=dict)
    stopped: dict[str, Problem] = field(default_factory=dict)
    losses: dict[str, Loss] = field(default_factory=dict)

    def accept(self) -> None:
        """Accept the losses that are known now. For the owner."""
        self.accepted |= self.stopped
        for place in list(self.losses):
            self.losses.pop(place, None)

    def disconnected(self) -> None:
        self.is_connected = False

    def note_loss(self, loss: Loss) -> None:
        """For the owner and the thread that reads `jobs`. Of many losses the newest are named."""
        self.losses[loss.place] = loss
        for place in list(self.losses)[:-MOST_LOSSES]:
            self.losses.pop(place, None)
