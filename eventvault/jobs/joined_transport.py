"""Two transports as one: the local worker over a socket, and the workers of other machines over Kafka."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from eventvault.jobs.messages import Bye, SessionHello, Tick, Work
from eventvault.jobs.transport import DispatcherTransport, Loss, OutboxMessage, Position, Received, Submitted
from eventvault.problems import Problem
from eventvault.recent import Recent

MOST_SESSIONS = 10_000
"""Most sessions whose transport is remembered: those that reported last."""


class RemoteTransport(DispatcherTransport, Protocol):
    """A transport that does not wait itself: when something comes, it calls the `wake` of another transport."""

    def seconds_until_due(self) -> float:
        """Return after how many seconds `receive` has something to do, even if nothing comes."""


class JoinedTransport:
    """local: waits for both transports. make_remote: called with the function that ends this wait."""

    def __init__(
        self, local: DispatcherTransport, make_remote: Callable[[Callable[[], None]], RemoteTransport]
    ) -> None:
        self.tick_seconds = local.tick_seconds
        self._local = local
        self._remote = make_remote(local.wake)
        self._is_remote: Recent[str, bool] = Recent(MOST_SESSIONS)
        """Session → whether it came by the remote transport."""
        self._received: list[Received] = []
        self._submitted: list[Submitted] = []
        """What was received; it stays here if a transport fails before it is returned."""

    def open(self, positions: Sequence[Position], sessions: Mapping[str, int]) -> None:
        self._is_remote = Recent(MOST_SESSIONS)
        self._received, self._submitted = [], []
        self._local.open(positions, sessions)
        self._remote.open(positions, sessions)

    def receive(self, seconds: float, most: int, *, submissions: bool = True) -> tuple[list[Received], list[Submitted]]:
        deadline = time.monotonic() + seconds
        self._receive_remote(most, submissions=submissions)
        has_remote = bool(self._received or self._submitted)
        pause = 0.0 if has_remote else min(deadline - time.monotonic(), self._remote.seconds_until_due())
        local, _ = self._local.receive(max(0.0, pause), max(most - len(self._received), min(most, 1)))
        self._note(local, is_remote=False)
        self._received += local
        if not has_remote:
            self._receive_remote(most, submissions=submissions)
        received, self._received = self._received, []
        submitted, self._submitted = self._submitted, []
        return received, submitted

    def _receive_remote(self, most: int, *, submissions: bool) -> None:
        received, submitted = self._remote.receive(0, most, submissions=submissions)
        self._note(received, is_remote=True)
        self._received += received
        self._submitted += submitted

    def send(self, work: Sequence[Work]) -> None:
        """Send to the transport of the session's hello. If that is forgotten, send to both: one of them drops it."""
        self._local.send([message for message in work if self._is_remote.get(message.to) is not True])
        self._remote.send([message for message in work if self._is_remote.get(message.to) is not False])

    def publish(self, messages: Sequence[OutboxMessage]) -> list[OutboxMessage]:
        return self._remote.publish(messages)

    def is_rewound(self) -> bool:
        return self._remote.is_rewound()

    def go_on(self, *, lacks_changes: bool = False) -> None:
        self._remote.go_on(lacks_changes=lacks_changes)

    def losses(self) -> list[Loss]:
        return self._remote.losses()

    def remember(self, losses: Sequence[Loss]) -> None:
        self._remote.remember(losses)

    def is_connected(self) -> bool:
        return self._remote.is_connected()

    def wake(self) -> None:
        self._local.wake()

    def problems(self) -> list[Problem]:
        return [*self._local.problems(), *self._remote.problems()]

    def close(self) -> None:
        self._remote.close()
        self._local.close()

    def _note(self, received: Sequence[Received], *, is_remote: bool) -> None:
        """Note which transport brought the sessions, and that they are alive."""
        for report, _ in received:
            if isinstance(report, SessionHello):
                self._is_remote.put(report.session, is_remote)
            elif isinstance(report, Bye):
                if self._is_remote.get(report.session) is is_remote:
                    self._is_remote.pop(report.session)
            elif not isinstance(report, Tick):
                self._is_remote.touch(report.session)
