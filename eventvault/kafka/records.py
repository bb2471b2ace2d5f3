"""The messages of a client as records. A KafkaRecord is made only when it is read, because most messages need none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from confluent_kafka import Message

from eventvault.kafka.messages import Columns, Headers, KafkaRecord, plain_texts


class Records(Columns):
    """The records of messages, in their order. Each access makes a new KafkaRecord."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self._messages = messages
        self._problems: dict[int, str] = {}
        self._headers = self._read_headers()

    def __len__(self) -> int:
        return len(self._messages)

    def __getitem__(self, index: Any) -> Any:
        position = range(len(self._messages))[index]
        message = self._messages[position]
        kind, milliseconds = message.timestamp()
        return KafkaRecord(  # by position, which takes half the time
            message.topic() or "",
            message.partition() or 0,
            message.offset() or 0,
            milliseconds if kind else None,
            message.key(),
            message.value(),
            list(self._headers[position] or []),
            message.leader_epoch(),
            self._problems.get(position),
        )

    def offsets(self) -> list[int]:
        return cast("list[int]", list(map(Message.offset, self._messages)))

    def texts(self) -> list[bytes | None]:
        texts = plain_texts(map(Message.value, self._messages), self._headers)
        for position in self._problems:
            texts[position] = None
        return texts

    def _read_headers(self) -> list[Headers | None]:
        """Read the headers of each message once. If the client cannot decode a header's name: None, and a problem.

        confluent_kafka 2 then returns headers of which one has no name, and sets an error that it does not raise: `map`
        does. The headers stay with the message, and reading them again would crash.
        """
        all_headers: list[Headers | None] = []
        rest = iter(self._messages)
        while len(all_headers) < len(self._messages):
            try:
                all_headers.extend(cast("map[Headers | None]", map(Message.headers, rest)))
            except (ValueError, SystemError) as error:
                self._problems[len(all_headers)] = _problem(error)
                all_headers.append(None)
        return all_headers


def record_of(message: Message) -> KafkaRecord:
    record: KafkaRecord = Records([message])[0]
    return record


def _problem(error: BaseException) -> str:
    """Return why headers cannot be read. Raises any other error again.

    Python raises a SystemError if there are several such errors, or if it notices the error early.
    """
    cause: BaseException | None = error
    while isinstance(cause, SystemError):
        cause = cause.__cause__
    if not isinstance(cause, ValueError):
        raise error
    return f"its headers cannot be read, as the name of one is not UTF-8: {cause}"
