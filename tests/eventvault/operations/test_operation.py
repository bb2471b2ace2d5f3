"""The handle of an operation: progress, cancel, and what a child process reports."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from eventvault.errors import OperationCancelled
from eventvault.operations.kinds import ROUTES
from eventvault.operations.lines import LineReader, ProgressLines
from eventvault.operations.operation import Operation, current, working_on
from eventvault.operations.rate import Rate


@pytest.mark.parametrize(("kind", "route"), [(kind, route) for kind, routes in ROUTES.items() for route in routes])
def test_progress_never_falls_and_reaches_the_end(kind: str, route: dict[str, float]) -> None:
    operation, seen = Operation(kind=kind), [0.0]
    for step in route:
        operation.step(step, 10)
        for _ in range(11):
            operation.advance(1)
            seen.append(operation.progress().fraction)
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1.0)


def test_a_step_that_no_route_has_leaves_the_progress_as_it_is() -> None:
    operation = Operation(kind="create")
    operation.step("read back", 10)
    before = operation.progress().fraction
    operation.step("something else", 10)
    operation.advance(10)
    assert (operation.progress().fraction, operation.progress().step) == (before, "something else")


def test_the_rate_follows_what_comes_now_and_falls_when_nothing_comes() -> None:
    rate = Rate(0.0)
    assert rate.per_second(5.0) is None
    for second in range(1, 61):
        rate.add(100, second)
    assert rate.per_second(60.0) == pytest.approx(100)
    for second in range(61, 121):
        rate.add(10, second)
    assert rate.per_second(120.0) == pytest.approx(10, rel=0.05)
    assert (rate.per_second(180.0) or 0) < 1


def test_a_cancel_ends_what_is_registered_and_the_next_step() -> None:
    operation, ended = Operation(), list[str]()
    with operation.on_cancel(lambda: ended.append("before")):
        pass
    with operation.on_cancel(lambda: ended.append("child")):
        operation.cancel()
        operation.cancel()
    with operation.on_cancel(lambda: ended.append("later child")):
        pass
    assert ended == ["child", "later child"]
    with pytest.raises(OperationCancelled):
        operation.step("write")
    with pytest.raises(OperationCancelled):
        operation.decided()


@pytest.mark.slow
def test_of_a_cancel_and_a_decision_exactly_one_wins() -> None:
    for _ in range(200):
        operation, barrier = Operation(), threading.Barrier(2)
        with ThreadPoolExecutor(2) as pool:
            both = [pool.submit(_together, barrier, call) for call in (operation.cancel, operation.decided)]
        assert sum(outcome.exception(60) is None for outcome in both) == 1


def _together(barrier: threading.Barrier, call: Callable[[], None]) -> None:
    barrier.wait(60)
    call()


def test_a_child_process_reports_by_lines_and_its_answer_follows() -> None:
    output = bytearray()
    lines = ProgressLines(output.extend)
    child, parent = Operation(report=lines.report), Operation(kind="verify")
    reader = LineReader(parent)
    child.step("read", 5000)
    for _ in range(3000):
        child.advance(1)
    reader.read(bytes(output[:-3]))
    lines.flush()
    output += b'{"result":{}}'
    reader.read(bytes(output))
    assert output.count(b"\n") < 30, "the bytes are added up"
    assert (parent.progress().step, parent.progress().bytes_done, parent.progress().bytes_total) == ("read", 3000, 5000)


def test_the_operation_of_a_thread_is_its_own() -> None:
    operation, seen = Operation(), list[Operation]()
    with working_on(operation):
        thread = threading.Thread(target=lambda: seen.append(current()))
        thread.start()
        thread.join(60)
        assert current() is operation
    assert seen[0] is not operation
    assert current() is not operation
