"""Two transports as one: the local worker over a socket, and the workers of other machines over Kafka."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from eventvault.jobs.messages import Bye, Hello, Work
from eventvault.jobs.transport import DispatcherTransport, Letter, Position, Received, Submitted


class RemoteTransport(DispatcherTransport, Protocol):
    """A transport that is waited for by another one: it calls that one's `wake` when something came."""

    def seconds_until_due(self) -> float:
        """Return after how many seconds `receive` has something to do, whether or not something comes."""


class JoinedTransport:
    """local: it waits for both. make_remote: called with what ends its wait."""

    def __init__(
        self, local: DispatcherTransport, make_remote: Callable[[Callable[[], None]], RemoteTransport]
    ) -> None:
        self.tick_seconds = local.tick_seconds
        self._local = local
        self._remote = make_remote(local.wake)
        self._local_sessions: set[str] = set()
        self._remote_sessions: set[str] = set()

    def open(self, positions: Sequence[Position], sessions: Mapping[str, int]) -> None:
        self._local_sessions, self._remote_sessions = set(), set()
        self._local.open(positions, sessions)
        self._remote.open(positions, sessions)

    def receive(self, seconds: float, most: int, *, submissions: bool = True) -> tuple[list[Received], list[Submitted]]:
        deadline = time.monotonic() + seconds
        received, submitted = self._remote.receive(0, most, submissions=submissions)
        is_over = bool(received or submitted)
        pause = 0.0 if is_over else min(deadline - time.monotonic(), self._remote.seconds_until_due())
        local, _ = self._local.receive(max(0.0, pause), max(most - len(received), min(most, 1)))
        if not is_over:
            received, submitted = self._remote.receive(0, most, submissions=submissions)
        self._note(local, self._local_sessions, self._remote_sessions)
        self._note(received, self._remote_sessions, self._local_sessions)
        return [*received, *local], submitted

    def send(self, work: Sequence[Work]) -> None:
        """Send to the transport of the session's hello; to both if it said none since the start, as one drops it."""
        self._local.send([each for each in work if each.to not in self._remote_sessions])
        self._remote.send([each for each in work if each.to not in self._local_sessions])

    def publish(self, letters: Sequence[Letter]) -> list[Letter]:
        return self._remote.publish(letters)

    def is_rewound(self) -> bool:
        return self._remote.is_rewound()

    def go_on(self) -> None:
        self._remote.go_on()

    def is_connected(self) -> bool:
        return self._remote.is_connected()

    def wake(self) -> None:
        self._local.wake()

    def problems(self) -> list[tuple[str, str, str]]:
        return [*self._local.problems(), *self._remote.problems()]

    def close(self) -> None:
        self._remote.close()
        self._local.close()

    def _note(self, received: Sequence[Received], sessions: set[str], others: set[str]) -> None:
        """Note by which transport sessions came."""
        for report, _ in received:
            if isinstance(report, Hello):
                sessions.add(report.session)
                others.discard(report.session)
            elif isinstance(report, Bye):
                sessions.discard(report.session)
