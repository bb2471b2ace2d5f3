"""A client of server-sent events, as the HTML standard has it: what it reads, and what it sends when it comes back."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Message:
    """kind: of `event:`. comment: a block without a message, such as one that shows that the stream lives."""

    kind: str = ""
    data: str = ""
    id: str = ""
    comment: bool = False

    def json(self) -> Any:
        return json.loads(self.data)


@dataclass
class Following:
    """A connection to a stream. last_id: what a browser would send as `Last-Event-ID`."""

    port: int
    path: str = "/api/events/stream"
    last_id: str = ""
    timeout: float = 30
    headers: dict[str, str] = field(default_factory=dict)
    response: http.client.HTTPResponse = field(init=False)
    connection: http.client.HTTPConnection = field(init=False)

    def __post_init__(self) -> None:
        self.connect()

    def connect(self) -> None:
        headers = {**self.headers, **({"Last-Event-ID": self.last_id} if self.last_id else {})}
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.timeout)
        self.connection.request("GET", self.path, headers=headers)
        self.response = self.connection.getresponse()

    @property
    def status(self) -> int:
        return self.response.status

    def blocks(self) -> Iterator[Message]:
        """Yield what comes, comments included, until the stream ends."""
        while lines := self._lines():
            yield self._parsed(lines)

    def messages(self) -> Iterator[Message]:
        return (block for block in self.blocks() if block.kind)

    def next(self, count: int) -> list[Message]:
        """Return so many messages. Raises TimeoutError if they do not come in time."""
        following = self.messages()
        return [next(following) for _ in range(count)]

    def close(self) -> None:
        self.response.close()
        self.connection.close()

    def __enter__(self) -> Following:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _lines(self) -> list[str]:
        """Return the lines of the next block; none at the end."""
        lines = []
        while line := self.response.readline():
            if line == b"\n":
                return lines or self._lines()
            lines.append(line.decode().removesuffix("\n"))
        return []  # a block that breaks off does not count

    def _parsed(self, lines: list[str]) -> Message:
        fields: Mapping[str, str] = dict(line.split(": ", 1) for line in lines if not line.startswith(":"))
        if "id" in fields:
            self.last_id = fields["id"]
        if "data" not in fields:
            return Message(comment=True, id=fields.get("id", ""))
        return Message(fields.get("event", "message"), fields["data"], fields.get("id", ""))
