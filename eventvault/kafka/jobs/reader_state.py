"""The state that the reading threads of the dispatcher's transport share with its owner, and the items they pass on."""

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
    """The end of the reports was reached for the first time. is_late: earlier reports exist that were not read."""

    is_late: bool


@dataclass
class ReaderState:
    """Each member is set by one thread and read by others.

    Set by the owner:
    may_take: whether messages of `jobs` may be read.
    written: partition of `jobs` → the offset before which everything is on disk.
    accepted: stopped partitions whose loss was accepted. The reader removes an entry once it has taken effect.
    Set by a reading thread:
    reports: the position after the last report that was read.
    is_late: as in CaughtUp. has_caught_up: whether a CaughtUp was passed on.
    jobs: partition of `jobs` → its next message. is_connected: whether brokers answered the newest request.
    work_partitions: how many partitions `jobs.work` has, as far as is known.
    invalid: how many messages of `jobs.reports` were not reports. problems: by their subject.
    stopped: the problems of partitions of `jobs` that wait until somebody accepts their loss.
    losses: by place, of partitions that go on. A loss stays here until somebody accepts it.
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
    problems: dict[str, Problem] = field(default_factory=dict)
    stopped: dict[str, Problem] = field(default_factory=dict)
    losses: dict[str, Loss] = field(default_factory=dict)

    def accept(self) -> None:
        """Accept all present losses. Called by the owner."""
        self.accepted |= self.stopped
        for place in list(self.losses):
            self.losses.pop(place, None)

    def note_disconnect(self) -> None:
        self.is_connected = False

    def note_loss(self, loss: Loss) -> None:
        """Add a loss; beyond MOST_LOSSES, forget the oldest. Called by the owner and the thread that reads `jobs`."""
        self.losses[loss.place] = loss
        for place in list(self.losses)[:-MOST_LOSSES]:
            self.losses.pop(place, None)
