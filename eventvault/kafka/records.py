"""The messages of a client as records: one is made only of a message that is looked at, as most need none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from confluent_kafka import Message

from eventvault.kafka.messages import Columns, Headers, KafkaRecord, plain_texts


class Records(Columns):
    """Records of messages, in their order; each is made anew."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self._messages = messages
        self._problems: dict[int, str] = {}
        self._headers = self._read_headers()

    def __len__(self) -> int:
        return len(self._messages)

    def __getitem__(self, index: Any) -> Any:
        at = range(len(self._messages))[index]
        message = self._messages[at]
        kind, milliseconds = message.timestamp()
        return KafkaRecord(  # by position, which takes half the time
            message.topic() or "",
            message.partition() or 0,
            message.offset() or 0,
            milliseconds if kind else None,
            message.key(),
            message.value(),
            list(self._headers[at] or []),
            message.leader_epoch(),
            self._problems.get(at),
        )

    def offsets(self) -> list[int]:
        return cast("list[int]", list(map(Message.offset, self._messages)))

    def texts(self) -> list[bytes | None]:
        found = plain_texts(map(Message.value, self._messages), self._headers)
        for at in self._problems:
            found[at] = None
        return found

    def _read_headers(self) -> list[Headers | None]:
        """Read the headers of each message once; none, and a problem, if the client cannot decode a header's name.

        confluent_kafka 2 then returns headers of which one has no name, and sets an error that it does not raise: `map`
        does. The headers stay with the message, and a look at them would crash.
        """
        found: list[Headers | None] = []
        rest = iter(self._messages)
        while len(found) < len(self._messages):
            try:
                found.extend(cast("map[Headers | None]", map(Message.headers, rest)))
            except (ValueError, SystemError) as error:
                self._problems[len(found)] = _problem(error)
                found.append(None)
        return found


def record_of(message: Message) -> KafkaRecord:
    record: KafkaRecord = Records([message])[0]
    return record


def _problem(error: BaseException) -> str:
    """Return why headers cannot be read. Raises what is another error.

    Python makes a SystemError of several such errors, or of one that it meets earlier.
    """
    cause: BaseException | None = error
    while isinstance(cause, SystemError):
        cause = cause.__cause__
    if not isinstance(cause, ValueError):
        raise error
    return f"its headers cannot be read, as the name of one is not UTF-8: {cause}"
