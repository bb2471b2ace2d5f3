"""One backup is made at a time, and requests with the same label share the one that waits."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from eventvault.backups.entry import BackupEntry, Created
from eventvault.backups.request_queue import BackupRequest, RequestQueue
from eventvault.errors import NoSpace, OperationCancelled, OperationDecided
from eventvault.operations.operation import Operation
from tests import processes


class Maker:
    """Makes backups with the names 1, 2, … once `go_on` is set."""

    def __init__(self) -> None:
        self.queue = RequestQueue()
        self.go_on = threading.Event()
        self.labels: list[str | None] = []
        self.callers: list[Operation] = []
        self.running = 0

    def create(self, request: BackupRequest) -> Created:
        self.queue.close(request)
        self.running += 1
        self.labels.append(request.label)
        request.operation.note("archive", str(len(self.labels)))
        assert self.running == 1, "two are made at once"
        assert self.go_on.wait(60)
        self.running -= 1
        return Created(BackupEntry(name=str(len(self.labels)), path="", size=0, created=0), 0)

    def run(self, label: str | None) -> str:
        return self.queue.run(label, self.caller(), self.create).backup.name

    def caller(self) -> Operation:
        self.callers.append(Operation())
        return self.callers[-1]


def test_a_request_joins_one_that_waits_with_its_label_and_never_one_that_runs() -> None:
    maker = Maker()
    with ThreadPoolExecutor(5) as pool:
        running = pool.submit(maker.run, "a")
        processes.wait_until(lambda: maker.running == 1, "the first runs")
        waiting = pool.submit(maker.run, "a")
        processes.wait_until(lambda: len(maker.queue._waiting) == 1, "the second waits")
        joined, is_new = maker.queue._join("a", maker.caller())
        other = pool.submit(maker.run, None)
        processes.wait_until(lambda: len(maker.queue._waiting) == 2, "the other waits")
        maker.go_on.set()

    assert running.result() == "1"
    assert not is_new
    assert waiting.result() == joined.result.result().backup.name != "1"
    assert {waiting.result(), other.result()} == {"2", "3"}
    noted = [caller.notes["archive"] for caller in maker.callers]
    assert sorted(noted) == sorted(["1", waiting.result(), waiting.result(), other.result()])
    assert sorted(map(str, maker.labels)) == ["None", "a", "a"]


def test_an_error_is_for_all_who_share_the_request_and_for_nobody_after_them() -> None:
    maker = Maker()
    maker.go_on.set()

    def fail(request: BackupRequest) -> Created:
        raise NoSpace("full", hint="free some")

    with pytest.raises(NoSpace):
        maker.queue.run("a", maker.caller(), fail)

    assert maker.queue._waiting == []
    assert maker.run("a") == "1"


def test_a_caller_that_cancels_stops_waiting_and_the_others_get_the_backup() -> None:
    maker = Maker()
    with ThreadPoolExecutor(3) as pool:
        running = pool.submit(maker.run, "a")
        processes.wait_until(lambda: maker.running == 1, "the first runs")
        one, other = pool.submit(maker.run, "a"), pool.submit(maker.run, "a")
        processes.wait_until(lambda: len(maker.callers) == 3, "two wait")
        maker.callers[2].cancel()
        maker.go_on.set()

    assert running.result() == "1"
    cancelled = [future.exception() for future in (one, other)]
    assert [type(error) for error in cancelled if error is not None] == [OperationCancelled]
    assert maker.labels == ["a", "a"]


@pytest.mark.slow
def test_a_backup_that_all_have_cancelled_is_never_made() -> None:
    maker = Maker()
    with ThreadPoolExecutor(3) as pool:
        pool.submit(maker.run, None)
        processes.wait_until(lambda: maker.running == 1, "the first runs")
        both = [pool.submit(maker.run, "a") for _ in range(2)]
        processes.wait_until(lambda: len(maker.callers) == 3, "two wait")
        for caller in maker.callers[1:]:
            caller.cancel()
        assert [type(future.exception(60)) for future in both] == [OperationCancelled] * 2
        maker.go_on.set()

    assert maker.labels == [None]


def test_a_backup_that_has_its_name_can_be_cancelled_by_none_of_its_callers() -> None:
    queue, callers = RequestQueue(), [Operation(), Operation()]

    def create(request: BackupRequest) -> Created:
        queue._join(None, callers[1])
        callers[1].cancel()
        request.operation.decided()
        with pytest.raises(OperationDecided):
            callers[0].cancel()
        return Created(BackupEntry(name="a", path="", size=0, created=0), 0)

    assert queue.run(None, callers[0], create).backup.name == "a"
