"""One backup is made at a time, and requests with the same label share the one that waits."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from eventvault.backups.entry import BackupEntry, Created
from eventvault.backups.request_queue import BackupRequest, RequestQueue
from eventvault.errors import NoSpace
from tests import processes


class Maker:
    """Makes backups with the names 1, 2, … once `go_on` is set."""

    def __init__(self) -> None:
        self.queue = RequestQueue()
        self.go_on = threading.Event()
        self.labels: list[str | None] = []
        self.noted: list[str] = []
        self.running = 0

    def create(self, request: BackupRequest) -> Created:
        self.queue.close(request)
        self.running += 1
        self.labels.append(request.label)
        for note_name in request.note_name:
            note_name(str(len(self.labels)))
        assert self.running == 1, "two are made at once"
        assert self.go_on.wait(60)
        self.running -= 1
        return Created(BackupEntry(name=str(len(self.labels)), path="", size=0, created=0), 0)

    def run(self, label: str | None) -> str:
        return self.queue.run(label, self.noted.append, self.create).backup.name


def test_a_request_joins_one_that_waits_with_its_label_and_never_one_that_runs() -> None:
    maker = Maker()
    with ThreadPoolExecutor(5) as pool:
        running = pool.submit(maker.run, "a")
        processes.wait_until(lambda: maker.running == 1, "the first runs")
        waiting = pool.submit(maker.run, "a")
        processes.wait_until(lambda: len(maker.queue._waiting) == 1, "the second waits")
        joined, is_new = maker.queue._join("a", maker.noted.append)
        other = pool.submit(maker.run, None)
        processes.wait_until(lambda: len(maker.queue._waiting) == 2, "the other waits")
        maker.go_on.set()

    assert running.result() == "1"
    assert not is_new
    assert waiting.result() == joined.result.result().backup.name != "1"
    assert {waiting.result(), other.result()} == {"2", "3"}
    assert sorted(maker.noted) == sorted(["1", waiting.result(), waiting.result(), other.result()])
    assert sorted(map(str, maker.labels)) == ["None", "a", "a"]


def test_an_error_is_for_all_who_share_the_request_and_for_nobody_after_them() -> None:
    maker = Maker()
    maker.go_on.set()

    def fail(request: BackupRequest) -> Created:
        raise NoSpace("full", hint="free some")

    with pytest.raises(NoSpace):
        maker.queue.run("a", maker.noted.append, fail)

    assert maker.queue._waiting == []
    assert maker.run("a") == "1"
