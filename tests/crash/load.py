"""Clients that post events and remember what was acknowledged, and the check that all of it is there, once."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from tests import processes

LOST = "connection lost"
AWAY = "503 with Retry-After"


class Load:
    """Writers that post one event after another, each sent again with the same id until it is acknowledged.

    acknowledged: id → the sequence in the answer. troubles: how often a connection was lost or an answer said 503
    with Retry-After. bad: whatever else was answered; it must stay empty.
    """

    def __init__(self, port: int, *, writers: int = 4, name: str = "load", pause: float = 0.0) -> None:
        """pause: of a writer after each event, in seconds."""
        self.acknowledged: dict[str, int] = {}
        self.troubles: Counter[str] = Counter()
        self.bad: list[str] = []
        self._port = port
        self._name = name
        self._pause = pause
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(number,)) for number in range(writers)]
        self._counts = [0] * writers

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Every writer finishes its event, or gives it up when the service does not answer any more."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def advance(self, events: int = 3, seconds: float = 60) -> None:
        """Wait until every writer had that many more events acknowledged: the service answers everybody."""
        wanted = [count + events for count in self._counts]
        processes.wait_until(
            lambda: self.bad or all(count >= goal for count, goal in zip(self._counts, wanted, strict=True)),
            f"the writers stand at {self._counts} instead of {wanted}; troubles: {self.troubles}",
            seconds,
        )
        assert not self.bad, self.bad

    def _write(self, writer: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        for number in itertools.count():
            event_id = f"{self._name}-{writer}-{number}"
            while not self._post(connection, event_id):
                if self._stopped.wait(0.02):
                    break
            self._counts[writer] = number + 1
            if self._stopped.wait(self._pause):
                break
        connection.close()

    def _post(self, connection: http.client.HTTPConnection, event_id: str) -> bool:
        body = json.dumps({"type": "load", "source": self._name, "id": event_id, "data": {"filling": "x" * 200}})
        try:
            connection.request("POST", "/api/events", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            self.troubles[LOST] += 1
            return False
        if answer.status in (200, 201):
            self.acknowledged[event_id] = json.loads(content)["results"][0]["sequence"]
            return True
        if answer.status == 503 and answer.headers.get("Retry-After"):
            self.troubles[f"{AWAY}: {json.loads(content)['code']}"] += 1
        else:
            self.bad.append(f"{answer.status} {content[:500]!r}")
        return False


@contextmanager
def loading(port: int, *, writers: int = 4, name: str = "load") -> Iterator[Load]:
    """A Load that runs for as long as the context lasts, and has begun well."""
    load = Load(port, writers=writers, name=name)
    load.start()
    try:
        load.advance()
        yield load
    finally:
        load.stop()
    assert not load.bad, load.bad


def exported(port: int) -> list[dict[str, Any]]:
    """All events of a service, from its export."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request("GET", "/api/events/export")
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        return [json.loads(line) for line in answer.read().splitlines()]
    finally:
        connection.close()


def check_history(events: Iterable[dict[str, Any]], acknowledged: dict[str, int]) -> None:
    """No hole in the sequence, time never goes back, no event twice, and everything acknowledged as it was said."""
    events = list(events)
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1)), "the sequence has holes"
    times = [event["recordedtime"] for event in events]
    assert times == sorted(times), "recordedtime goes back"
    there = {event["id"]: event["sequence"] for event in events}
    assert len(there) == len(events), "an event is there twice"
    lost = {event_id: sequence for event_id, sequence in acknowledged.items() if there.get(event_id) != sequence}
    assert not lost, f"acknowledged, but not there as it was said: {dict(itertools.islice(lost.items(), 5))}"
