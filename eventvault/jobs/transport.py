"""The port between the dispatcher and its workers: Kafka topics, a Unix socket, or the memory of one process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec

from eventvault.jobs.messages import Report, Work
from eventvault.problems import Problem


class Position(msgspec.Struct, frozen=True, omit_defaults=True):
    """The next message to read in a partition. offset: 0 if nothing was read.

    crc, leader_epoch: of the message before it, CRC32C of its value. topic_id, cluster_id: where it was read. They tell
    later whether it is still the same topic. None: unknown. tick: the number of the dispatcher's newest tick that was
    read.
    """

    topic: str
    partition: int
    offset: int
    crc: int | None = None
    leader_epoch: int | None = None
    topic_id: str | None = None
    cluster_id: str | None = None
    tick: int = 0


class Received(NamedTuple):
    """A report and the position after it; None if the transport has no positions.

    Over Kafka every report has a position. A session's lease counts the ticks of the transport that brought its hello:
    ticks with a position, or ticks without.
    """

    report: Report
    position: Position | None = None


class Submitted(NamedTuple):
    """A message of the topic `jobs`, of any bytes, and the position after it."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    position: Position


class OutboxMessage(NamedTuple):
    """A message for others. kind: `result` for the topic of outcomes, `dead` for the topic of dead letters."""

    kind: Literal["result", "dead"]
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


class Loss(msgspec.Struct, frozen=True):
    """Messages that a topic lost before they were read. place: where. code, message, hint: as in health."""

    place: str
    code: str
    message: str
    hint: str


class DispatcherTransport(Protocol):
    """The dispatcher's end. It belongs to one thread. No method raises because the other side is away.

    Ticks are reports. Over Kafka a tick is produced only after the one before was read back and written, so none comes
    while no broker answers. Over a socket and in memory a timer makes them.
    """

    tick_seconds: float

    def open(self, positions: Sequence[Position], sessions: Mapping[str, int]) -> None:
        """Begin to read at these positions, which were written together with the messages before them.

        sessions: the live sessions, as far as is known → the partition that each named in its hello.
        """

    def receive(self, seconds: float, most: int, *, submissions: bool = True) -> tuple[list[Received], list[Submitted]]:
        """Return reports and jobs that came, in the order of each partition; wait at most `seconds` for the first.

        submissions: False while the queue is full: return no jobs. A tick comes after all waiting reports. So after a
        pause of the dispatcher, the reports of the meantime come first, and then one tick.
        """

    def send(self, work: Sequence[Work]) -> None:
        """Send each message to its session. It may be lost: the dispatcher repeats a message that has no effect."""

    def publish(self, messages: Sequence[OutboxMessage]) -> list[OutboxMessage]:
        """Return the messages that are on the brokers, and begin to write the others. Does not wait.

        Each turn calls it again with the others. A message in flight is not written twice.
        """

    def is_rewound(self) -> bool:
        """Return whether the database is an old copy: the topics have ticks of this dispatcher that it does not know.

        Before that is known, and if it is so until `go_on`, no message of `jobs` comes and nothing is sent.
        """

    def go_on(self, *, lacks_changes: bool = False) -> None:
        """Receive and send again although the database is an old copy, and accept all present losses.

        A loss that shows later is not accepted. lacks_changes: somebody has accepted that the database lacks its newest
        changes, so the topics may show the same later.
        """

    def losses(self) -> list[Loss]:
        """Return the losses that nobody has accepted. A loss is known before any message after it is received."""

    def remember(self, losses: Sequence[Loss]) -> None:
        """Add losses that were known before the start."""

    def is_connected(self) -> bool:
        """Return whether a broker answers; False if the transport has no broker."""

    def wake(self) -> None:
        """End a `receive` that waits. Any thread may call it."""

    def problems(self) -> list[Problem]:
        """Return the present problems."""

    def close(self) -> None: ...


class TransportAway(Exception):
    """The other side cannot be reached now; the message says why."""


class WorkerTransport(Protocol):
    """The supervisor's end. It belongs to one thread, which also waits for executors and for signals.

    Only `open` raises if the other side is away. A message to a session that is not open is lost, and sent again after
    its next hello.
    """

    def open(self, session: str) -> int:
        """Begin to listen for this session, in place of the one before. Returns the partition of `jobs.work`.

        Raises TransportAway; the caller then retries.
        """

    def fileno(self) -> int:
        """Return a descriptor that is readable when `receive` has something to return or to do. It never changes.

        Over a socket, `receive` also connects again, so it must be called at least once a second.
        """

    def connections(self) -> int:
        """Return how often a connection was made. Whenever that grows, the session sends its hello again."""

    def receive(self, seconds: float, most: int) -> list[Work]:
        """Return the messages to this session; wait at most `seconds` for the first."""

    def report(self, reports: Sequence[Report]) -> None:
        """Send the reports in this order. Those that cannot be sent now wait, and are sent when they can."""

    def is_open(self) -> bool:
        """Return whether the other side can be reached, as far as is known."""

    def close(self, seconds: float) -> None:
        """Send the waiting reports, for at most `seconds`, and close."""


class WithoutTopics:
    """The methods about topics, for a dispatcher's transport without a broker."""

    def publish(self, messages: Sequence[OutboxMessage]) -> list[OutboxMessage]:
        """Return all messages as written: there is no topic to write them to."""
        return list(messages)

    def is_rewound(self) -> bool:
        return False

    def go_on(self, *, lacks_changes: bool = False) -> None: ...

    def losses(self) -> list[Loss]:
        return []

    def remember(self, losses: Sequence[Loss]) -> None: ...

    def is_connected(self) -> bool:
        return False

    def problems(self) -> list[Problem]:
        return []
