"""Sends what waits in the outbox to the topic, and removes what the brokers have: one run, until the first error.

A message is *settled* once the brokers have it, or once it is given up. Messages are settled in the order in which they
were read, so a later run begins with the first one that is not settled. An idempotent producer delivers the messages of
a partition in order, so after an error only the last ones are missing. A settled message is not sent again, even while
it cannot be removed, for instance because the disk is full.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, Protocol

from confluent_kafka import KafkaError, KafkaException, Message

from eventvault import clock, processors, progress
from eventvault.database.commit import Done
from eventvault.database.outbox import Delivered
from eventvault.database.registry import BatchOutdated
from eventvault.database.values import AppendResult, Head
from eventvault.errors import EventVaultError
from eventvault.kafka import client_errors
from eventvault.kafka.publish import messages
from eventvault.kafka.publish.messages import Outgoing
from eventvault.kafka.publish.monitor import PublishMonitor
from eventvault.kafka.publish.outbox_reader import Settled, Unpublished

MOST_SENT = 5_000
MOST_SENT_BYTES = 16 * 2**20
"""Limits of what was sent and is not settled, so that memory stays bounded while no broker answers."""
READ_BYTES = 2**20
REMOVE_SECONDS = 0.2
"""Seconds between two removals. After a crash, what was delivered and not removed is sent again."""
MOST_REMOVED = 10_000
REMOVE_AGAIN_SECONDS = 2.0
MOST_SETTLED = 100_000
"""While so many delivered messages cannot be removed, no more are sent: a crash would send them all again."""
POLL_SECONDS = 0.02
IDLE_SECONDS = 0.1
MANY = 100
"""So many unsettled events are a burst. During a burst, publishing leaves the processors to the requests that post."""
BURST_SECONDS = 10.0
"""Events that wait for longer are published as fast as possible, even in a burst."""
_REST = 30.0
"""In a burst, the thread rests this many times as long as it worked, on one processor; less on several.

The client and the broker work meanwhile.
"""
_LONGEST_REST = 0.25
_FULL_HINT = "free some space on the disk of STORAGE_DIR if it is full; publishing then goes on automatically"
_FORMS: tuple[Callable[[bytes], Outgoing], ...] = (messages.outgoing, messages.without_data, messages.shortest)


class Sender(Protocol):
    """The part of confluent_kafka's Producer that is used."""

    def produce(self, *arguments: Any, **options: Any) -> None: ...
    def poll(self, timeout: float) -> int: ...


class OutboxSource(Protocol):
    """As `OutboxReader`."""

    generation: str
    read_upto: int
    settled: Settled

    def count(self) -> None: ...
    def oldest(self) -> int | None: ...
    def read(self, most_bytes: int) -> list[Unpublished]: ...
    def wait(self, seconds: float) -> None: ...
    def remove(self, delivered: Delivered, done: Done) -> None: ...


class TooLargeTogether(Exception):
    """The brokers refused several messages together because one is too large. So they must be sent one by one.

    count: how many were sent and are not settled.
    """

    def __init__(self, count: int) -> None:
        super().__init__(f"{count} messages were refused together")
        self.count = count


class _Sent:
    """A message that was sent. is_alone: no other message was in flight."""

    __slots__ = ("error", "form", "is_alone", "is_delivered", "size", "waiting")

    def __init__(self, waiting: Unpublished) -> None:
        self.waiting = waiting
        self.form = 0
        self.size = messages.size_of(waiting.body)
        self.is_alone = False
        self.is_delivered = False
        self.error: KafkaError | None = None

    def report(self, error: KafkaError | None, _: Message) -> None:
        self.is_delivered, self.error = error is None, error


class _Removal:
    """Removes `count` delivered messages from the outbox. messages: the keys of those that are not events.

    answer: None until it is known whether the removal is on disk.
    """

    __slots__ = ("answer", "count", "messages")

    def __init__(self, count: int = 0, messages: Sequence[bytes] = ()) -> None:
        self.count = count
        self.messages = list(messages)
        self.answer: AppendResult | EventVaultError | None = None

    def add(self, place: int | bytes) -> None:
        self.count += 1
        if isinstance(place, bytes):
            self.messages.append(place)


def _rest_after(seconds: float, usable: float) -> float:
    """Return how long the thread rests in a burst after it worked for so many seconds. usable: processors."""
    return min(seconds * _REST / usable, _LONGEST_REST)


class Relay:
    """largest: a message of so many bytes surely fits the topic. careful: how many are first sent one by one."""

    def __init__(
        self,
        topic: str,
        sender: Sender,
        outbox: OutboxSource,
        monitor: PublishMonitor,
        *,
        largest: int,
        careful: int = 0,
    ) -> None:
        self._topic = topic
        self._sender = sender
        self._outbox = outbox
        self._monitor = monitor
        self._largest = largest
        self._careful = careful
        self._unsent: deque[Unpublished] = deque()
        self._sent: deque[_Sent] = deque()
        self._sent_bytes = 0
        self._upto = outbox.read_upto
        self._reported: int | None = None
        """The `_upto` that the monitor knows; None before the first report."""
        self._message = outbox.settled.message
        self._next = _Removal(outbox.settled.unremoved, outbox.settled.messages)
        """The next removal: collects what is delivered until it begins."""
        self._removals: list[_Removal] = []
        self._remove_due = time.monotonic() + REMOVE_SECONDS
        self._most_removed = MOST_REMOVED

    def run(self, is_stopping: Callable[[], bool]) -> None:
        """Send until `is_stopping`. Raises KafkaException, TooLargeTogether, or why the database cannot be used."""
        usable = processors.usable()
        while not is_stopping():
            progress.step()
            if not self._removals:  # during a removal the count would be inexact
                self._outbox.count()
            began = time.thread_time()
            self.step()
            if self._sent or self._unsent:
                if self._may_rest(clock.now()):
                    time.sleep(_rest_after(time.thread_time() - began, usable))
            elif self._is_full():
                time.sleep(IDLE_SECONDS)  # there may be more to read, so `wait` would return at once
            else:
                self._outbox.wait(IDLE_SECONDS)

    def _may_rest(self, now: int) -> bool:
        """Return whether there is a burst, and no request waits for it. now: in microseconds."""
        if len(self._sent) + len(self._unsent) < MANY or self._monitor.is_awaited:
            return False
        oldest = self._sent[0].waiting if self._sent else self._unsent[0]
        return 0 <= now - oldest.recorded < BURST_SECONDS * 1e6

    def step(self) -> None:
        """Send as many messages as there is room for, and process the brokers' answers."""
        self._read()
        self._send()
        self._sender.poll(POLL_SECONDS if self._sent else 0)
        self.settle()
        self._remove_when_due()

    def settle(self) -> None:
        """Settle the messages that were delivered or are given up, in order."""
        sent, count = self._sent, 0
        while sent and (sent[0].is_delivered or (sent[0].error is not None and self._is_abandoned(sent[0]))):
            settled = sent.popleft()
            self._sent_bytes -= settled.size
            place = settled.waiting.place
            self._next.add(place)
            if isinstance(place, int):
                self._upto = place
            else:
                self._message = place
            count += settled.is_delivered
        if not sent and not self._unsent:
            self._upto = max(self._upto, self._outbox.read_upto)
        if count or self._upto != self._reported:
            self._reported = self._upto
            self._monitor.delivered(count, self._outbox.generation, self._upto)
        self._monitor.oldest_waits_since(self._oldest())

    def _oldest(self) -> int | None:
        """Return when the first waiting message was recorded, in microseconds; None if none waits."""
        if self._sent:
            return self._sent[0].waiting.recorded
        if self._unsent:
            return self._unsent[0].recorded
        return self._outbox.oldest() if self._is_full() else None

    def remove(self, done: Done = lambda _: None) -> None:
        """Remove from the outbox what was delivered. done: called with the answer, in another thread."""
        removal, self._next = self._next, _Removal()
        self._removals.append(removal)

        def answered(answer: AppendResult | EventVaultError) -> None:
            removal.answer = answer
            done(answer)

        self._outbox.remove(Delivered(removal.messages, self._upto), answered)

    @property
    def settled(self) -> Settled:
        """What need not be sent again."""
        unremoved = [removal for removal in self._removals if not isinstance(removal.answer, AppendResult)]
        unremoved.append(self._next)
        messages = list(chain.from_iterable(removal.messages for removal in unremoved))
        count = sum(removal.count for removal in unremoved)
        return Settled(self._outbox.generation, count, messages, self._upto, self._message)

    @property
    def must_remove(self) -> bool:
        """Whether a removal of delivered messages is due or under way."""
        return bool(self._next.count or self._removals)

    @property
    def waits_for_brokers(self) -> bool:
        return bool(self._sent)

    def _is_full(self) -> bool:
        """Return whether so many delivered messages are not removed that no more may be read."""
        return self._next.count + sum(removal.count for removal in self._removals) >= MOST_SETTLED

    def _read(self) -> None:
        if self._is_full():
            return
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
            if error.args[0].code() not in client_errors.TOO_LARGE:
                raise
            sent.error = error.args[0]
        self._sent_bytes += sent.size
        return True

    def _is_abandoned(self, sent: _Sent) -> bool:
        """Send a refused message in a shorter form. Returns True if there is no shorter form.

        Raises KafkaException if the failure has another cause, and TooLargeTogether if another message in flight may be
        the one that is too large.
        """
        error = sent.error
        assert error is not None, "it was refused"
        if error.code() not in client_errors.TOO_LARGE:
            raise KafkaException(error)
        if not sent.is_alone and len(self._sent) > 1:
            raise TooLargeTogether(len(self._sent))
        sent.form += 1
        if sent.form == len(_FORMS):
            place = sent.waiting.place
            event = Head(self._outbox.generation, place) if isinstance(place, int) else None
            self._monitor.abandoned(sent.waiting.body, event)
            return True
        self._sent_bytes -= sent.size
        message = _FORMS[sent.form](sent.waiting.body)
        sent.is_alone = True
        self._monitor.too_large(sent.waiting.body, is_first=sent.form == 1)
        if not self._produce(sent, message):
            raise KafkaException(error)
        return False

    def _remove_when_due(self) -> None:
        self._take_answers()
        now = time.monotonic()
        if not self._next.count or self._removals:
            return
        if now >= self._remove_due or self._next.count >= self._most_removed:
            self._remove_due = now + REMOVE_SECONDS
            self.remove()

    def _take_answers(self) -> None:
        """Process the answers of removals. What could not be removed is removed later, and not sent again.

        Raises BatchOutdated if another generation has begun.
        """
        for removal in [removal for removal in self._removals if removal.answer is not None]:
            self._removals.remove(removal)
            self._most_removed = MOST_REMOVED
            if isinstance(removal.answer, BatchOutdated):
                raise removal.answer
            if isinstance(removal.answer, EventVaultError):
                self._next.count += removal.count
                self._next.messages[:0] = removal.messages
                self._most_removed = 2 * MOST_SETTLED  # so that only the time makes it due
                self._remove_due = time.monotonic() + REMOVE_AGAIN_SECONDS
                if self._is_full():
                    reason = f"published events cannot be removed from the outbox: {removal.answer.message}"
                    self._monitor.failed(reason, _FULL_HINT)
                else:
                    self._monitor.not_removed(removal.answer.message)
