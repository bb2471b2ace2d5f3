"""The port between the dispatcher and its workers: Kafka topics, a Unix socket, or the memory of one process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec

from eventvault.jobs.messages import Report, Work
from eventvault.problems import Problem


class Position(msgspec.Struct, frozen=True, omit_defaults=True):
    """The next message to read of a partition. offset: 0 if nothing was read.

    The others tell whether it is still the same topic, and are stored with it: the CRC32C of the value of the message
    before, that message's leader epoch, and the ids of topic and cluster. None: unknown. tick: the number of the
    dispatcher's tick that was read last from there.
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
    """A report and the position after it; None where the transport has no positions.

    Over Kafka every report has one. A session's lease counts the ticks of the transport that its hello came by: those
    with a position, or those without.
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
    """A message for others. kind: `result`, for the topic of outcomes, or `dead`, for that of dead letters."""

    kind: Literal["result", "dead"]
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


class Loss(msgspec.Struct, frozen=True):
    """What a topic lost before it was read. place: where that is. code, message, hint: as health names it."""

    place: str
    code: str
    message: str
    hint: str


class DispatcherTransport(Protocol):
    """The dispatcher's end. It belongs to one thread. Nothing raises because the other side is away.

    Ticks are reports: over Kafka each is produced only when the one before was read back and written, so that none come
    while no broker answers; over a socket and in memory a timer makes them.
    """

    tick_seconds: float

    def open(self, positions: Sequence[Position], sessions: Mapping[str, int]) -> None:
        """Begin to read at these positions, which were written with what came before them.

        sessions: those that live, as far as is known, and the partition that each named in its hello.
        """

    def receive(self, seconds: float, most: int, *, submissions: bool = True) -> tuple[list[Received], list[Submitted]]:
        """Return what came, in order of each partition; wait at most `seconds` for the first.

        submissions: False while the queue is full. A tick comes after all reports that wait: after a pause of the
        dispatcher, what workers reported meanwhile comes first, and then one tick.
        """

    def send(self, work: Sequence[Work]) -> None:
        """Send each message to its session. A message may be lost: the dispatcher sends again what has no effect."""

    def publish(self, messages: Sequence[OutboxMessage]) -> list[OutboxMessage]:
        """Return those of the messages that are on the brokers, and begin to write the others. Does not wait.

        To be called again with the others, in each turn: what is on its way is not written twice.
        """

    def is_rewound(self) -> bool:
        """Return whether the topics have ticks of this dispatcher that its database does not know: it is an old copy.

        Then no message of `jobs` comes and nothing is sent, until `go_on`; nor before that is known.
        """

    def go_on(self, *, lacks_changes: bool = False) -> None:
        """Take and send again although the database is an old copy, and accept the losses that are known now.

        A loss that shows later is not accepted. lacks_changes: somebody has accepted that the database lacks its newest
        changes, so it is no news if the topics show the same later.
        """

    def losses(self) -> list[Loss]:
        """Return what was lost and nobody has accepted. It is known before anything behind it is received."""

    def remember(self, losses: Sequence[Loss]) -> None:
        """Name these losses too, which showed before the start."""

    def is_connected(self) -> bool:
        """Return whether a broker answers; False without one."""

    def wake(self) -> None:
        """End a `receive` that waits. May be called by any thread."""

    def problems(self) -> list[Problem]:
        """Return what is wrong now."""

    def close(self) -> None: ...


class TransportAway(Exception):
    """The other side cannot be reached now; the message says why."""


class WorkerTransport(Protocol):
    """The supervisor's end. It belongs to one thread, which waits for much else: for executors and for signals.

    Nothing but `open` raises because the other side is away. What is sent to a session that nobody has opened is lost,
    and sent again after its next hello.
    """

    def open(self, session: str) -> int:
        """Begin to listen for this session, in place of the one before. Returns the partition of `jobs.work`.

        Raises TransportAway; then the caller tries again.
        """

    def fileno(self) -> int:
        """A descriptor that is readable when `receive` has something, or something to do. It is always the same one.

        The other side of a socket is found again by `receive`, which is called at least once a second.
        """

    def connections(self) -> int:
        """How often a connection was made. Whenever it grows, the session says hello again."""

    def receive(self, seconds: float, most: int) -> list[Work]:
        """Return what was sent to this session; wait at most `seconds` for the first."""

    def report(self, reports: Sequence[Report]) -> None:
        """Send the reports in this order. Those that cannot be sent now wait, and are sent when they can."""

    def is_open(self) -> bool:
        """Whether the other side can be reached, as far as is known."""

    def close(self, seconds: float) -> None:
        """Send what waits, for at most `seconds`, and close."""


class WithoutTopics:
    """What a dispatcher's transport without a broker answers of topics."""

    def publish(self, messages: Sequence[OutboxMessage]) -> list[OutboxMessage]:
        """Return all: there is no topic that anybody could read."""
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
