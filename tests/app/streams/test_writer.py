"""The writer of streams, over real sockets: it waits for no client, and every stream ends."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from app import client_socket
from app.client_socket import ClientSocket, Waits
from app.streams import writer
from app.streams.writer import Stream, StreamWriter
from tests import processes


class Numbers:
    """A source that sends what it is told to."""

    def __init__(self, *pieces: bytes) -> None:
        self.ended = False
        self.started = threading.Event()
        self.closed = 0
        self.pieces = list(pieces)
        self.wake: Callable[[], None] = lambda: None

    def start(self, wake: Callable[[], None]) -> None:
        self.wake = wake
        self.started.set()

    def take(self) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""

    def comment(self) -> bytes:
        return b": comment\n\n"

    def close(self) -> None:
        self.closed += 1

    def send(self, piece: bytes) -> None:
        self.pieces.append(piece)
        self.wake()


class Clients:
    """Connections to one writer. ended: those whose streams have ended."""

    def __init__(self) -> None:
        self.ended: list[ClientSocket] = []
        self.released = 0
        self.writer = StreamWriter(self.ended.append)
        self._open = ExitStack()
        self._listener = self._open.enter_context(socket.create_server(("127.0.0.1", 0)))

    def follow(self, source: Numbers, *, chunked: bool = False) -> tuple[socket.socket, ClientSocket]:
        client = self._open.enter_context(socket.create_connection(self._listener.getsockname(), timeout=30))
        accepted = self._listener.accept()[0]
        self._open.callback(accepted.close)
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        connection = ClientSocket(accepted, Waits(1))
        self.writer.add(connection, Stream(source, self.release, chunked=chunked))
        assert source.started.wait(30)
        return client, connection

    def release(self) -> None:
        self.released += 1

    def wait_for_end(self, *connections: ClientSocket) -> None:
        processes.wait_until(lambda: set(connections) <= set(self.ended), "a stream has not ended")

    def close(self) -> None:
        self.writer.stop()
        self._open.close()


@pytest.fixture
def clients() -> Iterator[Clients]:
    following = Clients()
    yield following
    following.close()


def read(client: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = client.recv(65536)
        assert piece, data
        data += piece
    return data


def test_what_a_source_has_is_sent_at_once(clients: Clients) -> None:
    source = Numbers(b"one")
    client, _ = clients.follow(source)
    assert read(client, 3) == b"one"
    source.send(b"two")
    assert read(client, 3) == b"two"


def test_a_stream_in_chunks_ends_whole(clients: Clients) -> None:
    source = Numbers(b"one")
    client, connection = clients.follow(source, chunked=True)
    assert read(client, 8) == b"3\r\none\r\n"
    clients.writer.stop()
    clients.wait_for_end(connection)
    assert read(client, 5) == b"0\r\n\r\n"
    assert (source.closed, clients.released) == (1, 1)


@pytest.mark.slow
def test_a_stream_ends_whole_once_its_client_may_not_go_on(clients: Clients) -> None:
    allowed = threading.Event()
    allowed.set()
    client, connection = clients.follow(Numbers(b"one"), chunked=True)
    connection.go_on_while(allowed.is_set)
    other, _ = clients.follow(still := Numbers())
    assert read(client, 8) == b"3\r\none\r\n"
    allowed.clear()
    clients.wait_for_end(connection)
    assert read(client, 5) == b"0\r\n\r\n"
    still.send(b"two")
    assert read(other, 3) == b"two"


def test_a_stream_ends_with_its_source(clients: Clients) -> None:
    source = Numbers(b"one")
    client, connection = clients.follow(source)
    source.ended = True
    source.send(b"two")
    clients.wait_for_end(connection)
    assert read(client, 3).startswith(b"one")


def test_a_stream_ends_with_its_client(clients: Clients) -> None:
    source = Numbers()
    client, connection = clients.follow(source)
    client.close()
    clients.wait_for_end(connection)
    assert (source.closed, clients.released, connection.is_broken) == (1, 1, False)


def test_a_stream_whose_connection_cannot_be_watched_ends_alone(clients: Clients) -> None:
    client, _ = clients.follow(source := Numbers(b"one"))
    assert read(client, 3) == b"one"
    closed, unread = socket.socket(), Numbers()
    connection = ClientSocket(closed, Waits(1))
    closed.close()

    clients.writer.add(connection, Stream(unread, clients.release, chunked=False))

    clients.wait_for_end(connection)
    assert (unread.closed, clients.released, clients.ended) == (1, 1, [connection])
    source.send(b"two")
    assert read(client, 3) == b"two"


@pytest.mark.slow
def test_a_silent_stream_sends_comments(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "COMMENT_SECONDS", 0.01)
    client, _ = clients.follow(Numbers())
    assert read(client, 22) == b": comment\n\n: comment\n\n"


@pytest.mark.slow
def test_a_stream_is_ended_after_its_time_however_much_there_is_to_send(
    clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "STREAM_SECONDS", 0.2)

    class Endless(Numbers):
        def take(self) -> bytes:
            return b"more"

    client, connection = clients.follow(Endless())
    reader = threading.Thread(target=lambda: [None for _ in iter(lambda: client.recv(65536), b"")])
    reader.start()
    clients.wait_for_end(connection)
    connection.shutdown(socket.SHUT_WR)
    reader.join(30)
    assert not reader.is_alive()


@pytest.mark.slow
def test_a_client_that_takes_nothing_is_dropped_and_keeps_no_other_waiting(
    clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = Numbers(*[bytes(2**20)] * 20)
    other = Numbers()
    _, stuck = clients.follow(silent)
    client, _ = clients.follow(other)
    other.send(b"x" * 100)
    assert read(client, 100) == b"x" * 100
    assert stuck not in clients.ended
    with monkeypatch.context() as hasty:
        hasty.setattr(client_socket, "TAKE_SECONDS", 0.1)
        clients.wait_for_end(stuck)
    assert stuck.is_broken
    assert (silent.closed, clients.released) == (1, 1)
    other.send(b"y" * 100)
    assert read(client, 100) == b"y" * 100


@pytest.mark.slow
def test_a_client_that_reads_slowly_gets_everything(clients: Clients) -> None:
    source = Numbers(*[b"%d" % (number % 10) * 2**20 for number in range(12)])
    client, connection = clients.follow(source)
    assert read(client, 12 * 2**20) == b"".join(b"%d" % (number % 10) * 2**20 for number in range(12))
    assert connection not in clients.ended


def test_many_streams_end_at_once_when_the_worker_stops(clients: Clients) -> None:
    sources = [Numbers() for _ in range(50)]
    connections = [clients.follow(source)[1] for source in sources]
    clients.writer.stop()
    clients.wait_for_end(*connections)
    assert (clients.released, [source.closed for source in sources]) == (50, [1] * 50)
    late = Numbers()
    _, connection = clients.follow(late)
    clients.wait_for_end(connection)


def test_an_error_in_one_source_ends_this_stream_only(clients: Clients) -> None:
    class Broken(Numbers):
        def take(self) -> bytes:
            raise ValueError("a bug")

    good = Numbers()
    client, _ = clients.follow(good)
    _, connection = clients.follow(Broken())
    clients.wait_for_end(connection)
    good.send(b"fine")
    assert read(client, 4) == b"fine"
