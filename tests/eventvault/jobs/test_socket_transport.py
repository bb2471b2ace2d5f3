"""Dispatcher and workers understand each other over a socket, whichever of them is slow, silent or gone."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from threading import Thread

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventvault.jobs import wire
from eventvault.jobs.messages import Beat, Bye, Done, Report, Run, Tick, Work, encode
from eventvault.jobs.socket_transport import SocketTransport
from eventvault.jobs.socket_worker_transport import SocketWorkerTransport
from eventvault.jobs.transport import TransportAway
from eventvault.rpc import frames
from tests.eventvault.jobs.serving import serving
from tests.processes import wait_until

pytestmark = pytest.mark.slow

REPLY = wire.reply(None)


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def dispatcher(tmp_path: Path, clock: Clock) -> Iterator[SocketTransport]:
    transport = SocketTransport(now=clock)
    transport.open([], {})
    with closing(transport), serving(tmp_path, attach=transport.attach):
        yield transport


@pytest.fixture
def worker(tmp_path: Path, dispatcher: SocketTransport) -> Iterator[Callable[[str], SocketWorkerTransport]]:
    opened: list[SocketWorkerTransport] = []

    def open_session(session: str) -> SocketWorkerTransport:
        transport = SocketWorkerTransport(tmp_path)
        opened.append(transport)
        transport.open(session)
        return transport

    yield open_session
    for transport in opened:
        transport.close(0)


def received(dispatcher: SocketTransport, count: int, most: int = 4000) -> list[Report]:
    """Return the next so many reports."""
    reports: list[Report] = []

    def are_all_there() -> bool:
        reports.extend(one.report for one in dispatcher.receive(0, most)[0])
        return len(reports) >= count

    wait_until(are_all_there, "the reports do not come")
    return reports


def work_for(session: str, number: int = 1, size: int = 1) -> Run:
    return Run(
        to=session, job=f"j{number}", type="t", attempt=1, max_attempts=5, token=f"{session}-{number}", timeout=1,
        payload=msgspec.Raw(b'"' + b"x" * size + b'"'),
    )  # fmt: skip


def done(session: str, number: int = 1) -> Done:
    return Done(session=session, token=f"{session}-{number}", job=f"j{number}", seconds=0.1)


def test_messages_arrive_in_order_at_both_ends(
    dispatcher: SocketTransport, worker: Callable[[str], SocketWorkerTransport]
) -> None:
    one, other = worker("one"), worker("other")
    one.report([done("one", number) for number in range(3)])
    other.report([Beat(session="other", have=["a"])])
    assert sorted(map(encode, received(dispatcher, 4))) == sorted(
        map(encode, [*(done("one", number) for number in range(3)), Beat(session="other", have=["a"])])
    )
    dispatcher.send([work_for("one", 1), work_for("other", 2), work_for("one", 3), work_for("nobody", 4)])
    assert [message.job for message in one.receive(5, 10) if isinstance(message, Run)] == ["j1", "j3"]
    assert [message.to for message in other.receive(5, 10)] == ["other"]


def test_a_message_of_half_a_megabyte_arrives_while_others_are_served(
    dispatcher: SocketTransport, worker: Callable[[str], SocketWorkerTransport]
) -> None:
    slow, quick = worker("slow"), worker("quick")
    received_by_slow: list[Work] = []
    slow.report([Beat(session="slow")])
    quick.report([Beat(session="quick")])
    received(dispatcher, 2)
    dispatcher.send([*(work_for("slow", number, 2**19) for number in range(4)), work_for("quick")])
    assert len(quick.receive(5, 10)) == 1, "a worker that reads nothing holds up the others"

    def has_all() -> bool:
        dispatcher.receive(0, 10)
        received_by_slow.extend(slow.receive(0, 10))
        return len(received_by_slow) == 4

    wait_until(has_all, "large messages do not arrive")


def test_nobody_is_waited_for(dispatcher: SocketTransport, worker: Callable[[str], SocketWorkerTransport]) -> None:
    worker("deaf").report([Beat(session="deaf")])
    received(dispatcher, 1)
    for number in range(200):  # 100 MB: what is too much is dropped, and the dispatcher sends it again some time
        dispatcher.send([work_for("deaf", number, 2**19)])
    assert dispatcher.receive(0, 10) == ([], [])


def test_each_worker_gets_its_share_of_a_turn(
    dispatcher: SocketTransport, worker: Callable[[str], SocketWorkerTransport]
) -> None:
    loud, quiet = worker("loud"), worker("quiet")
    received(dispatcher, 0)
    loud.report([done("loud", number) for number in range(1000)])
    received(dispatcher, 1, most=1)
    quiet.report([done("quiet")])
    seen: list[Report] = []

    def is_quiet_heard() -> bool:
        seen.extend(one.report for one in dispatcher.receive(0, 10)[0])
        return any(isinstance(report, Done) and report.session == "quiet" for report in seen)

    wait_until(is_quiet_heard, "the quiet one is not heard")
    assert len(seen) < 500, "the quiet one is heard only when the loud one has said all"


def test_a_tick_comes_behind_all_that_came_before_it(
    dispatcher: SocketTransport, worker: Callable[[str], SocketWorkerTransport], clock: Clock
) -> None:
    busy = worker("busy")
    busy.report([done("busy", number) for number in range(100)])
    received(dispatcher, 1, most=1)
    clock.time = 1000.0
    reports = received(dispatcher, 100, most=10)
    assert [number for number, report in enumerate(reports) if isinstance(report, Tick)] == [99]
    assert received(dispatcher, 0) == [], "a pause of any length makes one tick"
    clock.time += dispatcher.tick_seconds
    assert received(dispatcher, 1) == [Tick(dispatcher="", number=2)]


def test_ticks_come_however_much_is_reported(
    dispatcher: SocketTransport, worker: Callable[[str], SocketWorkerTransport], clock: Clock
) -> None:
    busy = worker("busy")
    clock.time = 1000.0
    for _ in range(10_000):
        busy.report([done("busy", number) for number in range(20)])
        if any(isinstance(one.report, Tick) for one in dispatcher.receive(0, 10)[0]):
            return
    pytest.fail("no tick comes while a worker reports more than is taken")


def test_a_worker_finds_the_next_dispatcher_and_says_what_waited(tmp_path: Path) -> None:
    worker = SocketWorkerTransport(tmp_path)
    with pytest.raises(TransportAway, match=r"jobs\.sock"):
        worker.open("s")
    with closing(SocketTransport()) as first, serving(tmp_path, attach=first.attach):
        worker.open("s")
        assert (worker.is_open(), worker.connections()) == (True, 1)
    wait_until(lambda: worker.receive(0, 1) == [] and not worker.is_open(), "it does not see the end")
    worker.report([Beat(session="s"), done("s")])
    with closing(SocketTransport()) as other, serving(tmp_path, attach=other.attach):
        wait_until(lambda: worker.receive(0.01, 1) == [] and worker.is_open(), "it does not connect again")
        assert worker.connections() == 2, "the session says hello again"
        assert received(other, 1) == [done("s")], "an old beat says nothing that matters"
        worker.close(1)


def test_a_session_that_connects_again_replaces_its_connection(
    dispatcher: SocketTransport, worker: Callable[[str], SocketWorkerTransport]
) -> None:
    first = worker("s")
    first.report([done("s", 1)])
    second = worker("s")
    second.report([done("s", 2)])
    assert {report.token for report in received(dispatcher, 2) if isinstance(report, Done)} == {"s-1", "s-2"}
    dispatcher.send([work_for("s")])
    assert len(second.receive(5, 1)) == 1
    assert first.receive(0, 1) == []


def test_a_connection_belongs_to_its_session_before_the_worker_reads_the_reply(tmp_path: Path) -> None:
    """Else a worker that connects again could be replaced by its own earlier connection."""
    workers: list[socket.socket] = []
    reads_early: list[bool] = []

    def attach(session: str, connection: socket.socket, reply: bytes) -> None:
        assert session == "s"
        readable, _, _ = select.select(workers, [], [], 0)
        reads_early.append(bool(readable))
        frames.send(connection, reply)
        connection.close()

    with serving(tmp_path, attach=attach), frames.connect(tmp_path / "jobs.sock", 5) as worker:
        workers.append(worker)
        frames.send(worker, wire.request("attach", "s"))
        assert frames.receive(worker) == REPLY
    assert reads_early == [False]


def test_a_connection_is_the_newer_one_if_its_worker_has_read_the_reply_to_the_older_one() -> None:
    transport = SocketTransport(now=Clock())
    older, older_end = socket.socketpair()
    newer, newer_end = socket.socketpair()
    attaching = Thread(target=transport.attach, args=("s", older, REPLY))
    with closing(transport), older_end, newer_end:
        attaching.start()
        assert frames.receive(older_end) == REPLY
        transport.attach("s", newer, REPLY)
        attaching.join(30)
        transport.receive(0, 10)
        transport.send([work_for("s")])
        assert frames.FrameBuffer().feed(newer_end.recv(2**16)) == [REPLY, encode(work_for("s"))]


def test_what_waits_is_sent_before_the_end(
    dispatcher: SocketTransport, worker: Callable[[str], SocketWorkerTransport]
) -> None:
    ending = worker("s")
    ending.report([Bye(session="s")])
    ending.close(5)
    assert received(dispatcher, 1) == [Bye(session="s")]


def test_another_thread_ends_the_wait(dispatcher: SocketTransport) -> None:
    thread = Thread(target=dispatcher.wake)
    thread.start()
    assert dispatcher.receive(60, 10) == ([], [])
    thread.join(30)


def attached(storage: Path, session: str) -> socket.socket:
    connection = frames.connect(storage / "jobs.sock", 5)
    frames.send(connection, wire.request("attach", session))
    assert frames.receive(connection) == REPLY
    return connection


@settings(max_examples=25)
@given(st.binary(max_size=200))
def test_bytes_that_are_no_message_are_counted_and_ignored(nonsense: bytes) -> None:
    ours, theirs = socket.socketpair()
    dispatcher = SocketTransport(now=Clock())
    dispatcher.attach("s", ours, REPLY)
    with theirs:
        for body in (nonsense, encode(done("another")), encode(Tick(dispatcher="", number=1)), encode(done("s"))):
            theirs.sendall(frames.framed(body))
        assert received(dispatcher, 1)[-1] == done("s")
    assert dispatcher.invalid == 3
    dispatcher.close()


def test_a_frame_of_any_length_ends_only_its_own_connection(
    tmp_path: Path, dispatcher: SocketTransport, worker: Callable[[str], SocketWorkerTransport]
) -> None:
    with attached(tmp_path, "hostile") as hostile:
        hostile.sendall(b"\xff\xff\xff\xff and more")
        good = worker("good")
        good.report([done("good")])
        assert received(dispatcher, 1) == [done("good")]

        def is_closed() -> bool:
            dispatcher.receive(0, 10)
            try:
                return hostile.recv(1, socket.MSG_DONTWAIT) == b""
            except BlockingIOError:
                return False
            except ConnectionResetError:
                return True

        wait_until(is_closed, "the connection stays")


def test_a_message_that_is_nested_too_deeply_is_ignored_and_counted(dispatcher: SocketTransport) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        dispatcher.attach("s1", theirs, REPLY)
        deep = b"[" * 5_000 + b"]" * 5_000
        done = b'{"kind":"done","session":"s1","token":"t","job":"j","seconds":1,"result":%s}' % deep
        ours.sendall(frames.framed(done) + frames.framed(encode(Beat(session="s1"))))
        reports: list[Report] = []
        while not reports:
            reports = [report for report, _ in dispatcher.receive(1, 10)[0]]
    assert (reports, dispatcher.invalid) == ([Beat(session="s1")], 1)
