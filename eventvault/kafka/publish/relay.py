"""Sends what waits in the outbox to the topic, and removes what the brokers have: one run, until the first error.

What is sent is settled in the order in which it was read, so a later run begins with the first that is not settled. An
idempotent producer delivers the messages of a partition in their order, or the first ones of them.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from confluent_kafka import KafkaError, KafkaException, Message

from eventvault import progress
from eventvault.database.commit import Done
from eventvault.database.outbox import Delivered
from eventvault.database.values import AppendResult
from eventvault.errors import EventVaultError
from eventvault.kafka.publish import messages
from eventvault.kafka.publish.messages import Outgoing
from eventvault.kafka.publish.monitor import PublishMonitor
from eventvault.kafka.publish.outbox_reader import Waiting

MOST_SENT = 5_000
MOST_SENT_BYTES = 16 * 2**20
"""What was sent and is not settled: memory stays bounded while no broker answers."""
READ_BYTES = 2**20
REMOVE_SECONDS = 0.2
"""How often what was delivered is removed: a crash repeats no more."""
MOST_REMOVED = 10_000
POLL_SECONDS = 0.02
IDLE_SECONDS = 0.1
_TOO_LARGE = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE)
_FORMS: tuple[Callable[[bytes], Outgoing], ...] = (messages.outgoing, messages.without_data, messages.shortest)


class Sender(Protocol):
    """The part of confluent_kafka's Producer that is used."""

    def produce(self, *arguments: Any, **options: Any) -> None: ...
    def poll(self, timeout: float) -> int: ...


class Outbox(Protocol):
    """As `OutboxReader`."""

    generation: str
    read_upto: int

    def read(self, most_bytes: int) -> list[Waiting]: ...
    def wait(self, seconds: float) -> None: ...
    def remove(self, delivered: Delivered, done: Done) -> None: ...


class TooLargeTogether(Exception):
    """The brokers refused several messages together, as one of them is too large: they are sent one by one.

    count: how many were sent and are not settled.
    """

    def __init__(self, count: int) -> None:
        super().__init__(f"{count} messages were refused together")
        self.count = count


class _Sent:
    """A message that was sent. is_alone: no other one was."""

    __slots__ = ("error", "form", "is_alone", "is_delivered", "size", "waiting")

    def __init__(self, waiting: Waiting) -> None:
        self.waiting = waiting
        self.form = 0
        self.size = messages.size_of(waiting.body)
        self.is_alone = False
        self.is_delivered = False
        self.error: KafkaError | None = None

    def report(self, error: KafkaError | None, _: Message) -> None:
        """Called with the brokers' answer."""
        self.is_delivered, self.error = error is None, error


class Relay:
    """largest: bytes of the largest message that surely fits the topic. careful: how many are sent one by one first."""

    def __init__(
        self, topic: str, sender: Sender, outbox: Outbox, monitor: PublishMonitor, *, largest: int, careful: int = 0
    ) -> None:
        self._topic = topic
        self._sender = sender
        self._outbox = outbox
        self._monitor = monitor
        self._largest = largest
        self._careful = careful
        self._unsent: deque[Waiting] = deque()
        self._sent: deque[_Sent] = deque()
        self._sent_bytes = 0
        self._upto = outbox.read_upto
        self._reported: int | None = None
        """Up to which event the monitor knows that none waits; None before the first report."""
        self._removed: list[bytes] = []
        self._remove_due = time.monotonic() + REMOVE_SECONDS
        self._removing = False
        self._remove_error: EventVaultError | None = None

    def run(self, is_stopping: Callable[[], bool]) -> None:
        """Send until then. Raises KafkaException, TooLargeTogether, or why the database cannot be used."""
        while not is_stopping():
            progress.step()
            self.step()
            if not self._sent and not self._unsent:
                self._outbox.wait(IDLE_SECONDS)

    def step(self) -> None:
        """Send what there is room for, and take in what the brokers answered."""
        self._read()
        self._send()
        self._sender.poll(POLL_SECONDS if self._sent else 0)
        self.settle()
        self._remove_when_due()

    def settle(self) -> None:
        """Take in what was delivered, in order."""
        sent, count = self._sent, 0
        while sent and (sent[0].is_delivered or (sent[0].error is not None and self._is_abandoned(sent[0]))):
            settled = sent.popleft()
            self._sent_bytes -= settled.size
            self._removed.append(settled.waiting.key)
            self._upto = settled.waiting.sequence or self._upto
            count += settled.is_delivered
        if not sent and not self._unsent:
            self._upto = max(self._upto, self._outbox.read_upto)
        if count or self._upto != self._reported:
            self._reported = self._upto
            self._monitor.delivered(count, self._outbox.generation, self._upto)
        oldest = sent[0].waiting if sent else self._unsent[0] if self._unsent else None
        self._monitor.oldest_waits_since(None if oldest is None else oldest.recorded)

    def remove(self, done: Done) -> None:
        """Remove from the outbox what was delivered."""
        removed, self._removed = self._removed, []
        self._outbox.remove(Delivered(removed, self._upto), done)

    @property
    def must_remove(self) -> bool:
        """Whether something that was delivered is not known to be removed."""
        return bool(self._removed) or self._removing

    @property
    def waits_for_brokers(self) -> bool:
        return bool(self._sent)

    def _read(self) -> None:
        if not self._unsent and len(self._sent) < MOST_SENT and self._sent_bytes < MOST_SENT_BYTES:
            self._unsent.extend(self._outbox.read(READ_BYTES))

    def _send(self) -> None:
        while self._unsent and len(self._sent) < MOST_SENT and self._sent_bytes < MOST_SENT_BYTES:
            if self._sent and self._sent[-1].is_alone:
                return
            sent = _Sent(self._unsent[0])
            sent.is_alone = self._careful > 0 or sent.size > self._largest
            if sent.is_alone and self._sent:
                return
            if not self._produce(sent, _FORMS[0](sent.waiting.body)):
                return
            self._careful -= self._careful > 0
            self._unsent.popleft()
            self._sent.append(sent)

    def _produce(self, sent: _Sent, message: Outgoing) -> bool:
        """Hand a message to the client. Returns False if its queue is full."""
        sent.error = None
        try:
            self._sender.produce(
                self._topic, message.value, message.key, headers=message.headers, on_delivery=sent.report
            )
        except BufferError:
            return False
        except KafkaException as error:
            if error.args[0].code() not in _TOO_LARGE:
                raise
            sent.error = error.args[0]
        self._sent_bytes += sent.size
        return True

    def _is_abandoned(self, sent: _Sent) -> bool:
        """Send a message that was refused in a shorter form. Returns whether there is none.

        Raises KafkaException for a failure that has another cause, and TooLargeTogether if another message may be the
        one that is too large.
        """
        error = sent.error
        assert error is not None, "it was refused"
        if error.code() not in _TOO_LARGE:
            raise KafkaException(error)
        if not sent.is_alone and len(self._sent) > 1:
            raise TooLargeTogether(len(self._sent))
        sent.form += 1
        if sent.form == len(_FORMS):
            self._monitor.abandoned(sent.waiting.body)
            return True
        self._sent_bytes -= sent.size
        message = _FORMS[sent.form](sent.waiting.body)
        sent.is_alone = True
        self._monitor.too_large(sent.waiting.body, is_first=sent.form == 1)
        if not self._produce(sent, message):
            raise KafkaException(error)
        return False

    def _remove_when_due(self) -> None:
        if self._remove_error is not None:
            error, self._remove_error = self._remove_error, None
            raise error
        now = time.monotonic()
        if not self._removed or self._removing:
            return
        if now >= self._remove_due or len(self._removed) >= MOST_REMOVED:
            self._remove_due, self._removing = now + REMOVE_SECONDS, True
            self.remove(self._note_removed)

    def _note_removed(self, answer: AppendResult | EventVaultError) -> None:
        self._removing = False
        if isinstance(answer, EventVaultError):
            self._remove_error = answer
