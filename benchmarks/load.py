"""A cheap load generator: one process, one thread, raw sockets with keep-alive.

`measure` runs it as a separate process, so that it does not compete for the caller's interpreter.
"""

from __future__ import annotations

import json
import select
import socket
import subprocess
import sys
import time
from base64 import b64decode, b64encode
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Load:
    """The result of a load. Times are in seconds; p50, p99 and slowest are of one request."""

    requests: int
    seconds: float
    p50: float
    p99: float
    slowest: float
    statuses: dict[str, int]

    @property
    def rate(self) -> float:
        return self.requests / self.seconds

    @property
    def failed(self) -> dict[str, int]:
        """Return the number of answers of each status other than 2xx; `hung up` counts closed connections."""
        return {status: count for status, count in self.statuses.items() if not status.startswith("2")}


def http_request(
    method: str,
    path: str,
    body: bytes = b"",
    content_type: str = "application/json",
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """Return the bytes of a request that keeps its connection alive. headers: further ones."""
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: localhost",
        *(f"{name}: {text}" for name, text in (headers or {}).items()),
    ]
    if body:
        lines += [f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def measure(
    port: int, requests: Sequence[bytes], *, clients: int, seconds: float, rate: float | None = None, most: int = 0
) -> Load:
    """Send `requests` in turn from `clients` connections to loopback.

    rate: None: each client sends its next request after an answer; else requests per second in total, each timed from
    the moment it was due, so that a stall counts for every request it delays. most: maximum number (0: no limit).
    """
    task = {
        "port": port,
        "requests": [b64encode(request).decode() for request in requests],
        "clients": clients,
        "seconds": seconds,
        "rate": rate,
        "most": most,
    }
    outcome = subprocess.run(
        [sys.executable, "-m", "benchmarks.load"], input=json.dumps(task).encode(), stdout=subprocess.PIPE, check=True
    )
    return Load(**json.loads(outcome.stdout))


@dataclass
class Client:
    """A connection, idle or waiting for an answer. due: when its request was due."""

    port: int
    connection: socket.socket = field(init=False)
    received: bytearray = field(default_factory=bytearray)
    due: float = 0.0

    def __post_init__(self) -> None:
        self.connect()

    def connect(self) -> None:
        self.connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def has_ended(self) -> bool:
        """Return whether the server has closed the connection of an idle client, as it may at any time."""
        return bool(select.select([self.connection], [], [], 0)[0])

    def send(self, request: bytes, due: float) -> None:
        self.due = due
        self.received.clear()
        self.connection.sendall(request)

    def receive(self) -> str | None:
        """Return the status once the answer is complete, else None. Raises ConnectionError if the server hangs up."""
        piece = self.connection.recv(262_144)
        if not piece:
            raise ConnectionResetError("the server hung up")
        self.received += piece
        end = self.received.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = bytes(self.received[:end]).lower()
        at = head.find(b"content-length:")
        if at < 0:
            raise ConnectionError(f"an answer without Content-Length: {head!r}")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0])
        return head[9:12].decode() if len(self.received) >= end + 4 + length else None


class Generator:
    """The event loop: reads answers and sends requests until the time is over."""

    def __init__(self, task: dict[str, Any]) -> None:
        self.requests = [b64decode(request) for request in task["requests"]]
        self.most = task["most"] or sys.maxsize
        self.seconds: float = task["seconds"]
        self.interval = 1 / task["rate"] if task["rate"] else 0.0
        self.sent = 0
        self.times: list[float] = []
        self.statuses: Counter[str] = Counter()
        self.poll = select.epoll()
        self.idle = deque(Client(task["port"]) for _ in range(task["clients"]))
        """Idle clients. The one that is idle for longest is used next, as the server closes idle connections."""
        self.busy: dict[int, Client] = {}
        for client in self.idle:
            self.poll.register(client.connection, select.EPOLLIN)

    def run(self) -> Load:
        self.begin = time.perf_counter()
        while self.send_what_is_due() or self.busy:
            for number, _ in self.poll.poll(self.wait()):
                if number in self.busy:
                    self.take(self.busy[number])
                else:  # the server closed it; while it is watched, no other one is waited for
                    self.poll.unregister(number)
        elapsed = time.perf_counter() - self.begin
        times = sorted(self.times)
        return Load(
            len(times), elapsed, quantile(times, 0.5), quantile(times, 0.99), times[-1] if times else 0.0, self.statuses
        )

    def send_what_is_due(self) -> bool:
        """Send the due requests from idle clients. Returns False once there is nothing more to send."""
        now = time.perf_counter()
        while self.sent < self.most:
            due = self.begin + self.sent * self.interval if self.interval else now
            if (due if self.interval else now) >= self.begin + self.seconds:
                return False
            if due > now or not self.idle:
                return True
            client = self.idle.popleft()
            if client.has_ended():
                self.connect_again(client)
            client.send(self.requests[self.sent % len(self.requests)], due)
            self.busy[client.connection.fileno()] = client
            self.sent += 1
        return False

    def wait(self) -> float:
        """Return the seconds until the next request is due, at most one."""
        if not self.interval or not self.idle:
            return 1.0
        return min(1.0, max(0.0, self.begin + self.sent * self.interval - time.perf_counter()))

    def connect_again(self, client: Client) -> None:
        client.connection.close()
        client.connect()
        self.poll.register(client.connection, select.EPOLLIN)

    def take(self, client: Client) -> None:
        number = client.connection.fileno()
        try:
            status = client.receive()
        except ConnectionError:
            status = "hung up"
            self.connect_again(client)
        if status is not None:
            del self.busy[number]
            self.times.append(time.perf_counter() - client.due)
            self.statuses[status] += 1
            self.idle.append(client)


def quantile(ordered: Sequence[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else 0.0


if __name__ == "__main__":
    print(json.dumps(Generator(json.load(sys.stdin)).run().__dict__))
