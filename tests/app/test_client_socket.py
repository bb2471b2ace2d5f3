"""How long a thread waits for a client: by real sockets, with deadlines that are shortened."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from app import client_socket
from app.client_socket import ClientSocket, Waits

Pair = tuple[ClientSocket, socket.socket]


@pytest.fixture
def waits() -> Waits:
    return Waits(places=1)


@pytest.fixture
def pair(waits: Waits) -> Iterator[Pair]:
    """The service's end of a connection, and the client's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname(), timeout=30)
        connection = ClientSocket(listener.accept()[0], waits)
    with client, closing(connection):
        yield connection, client


def read_all(client: socket.socket) -> None:
    while client.recv(2**20):
        pass


def received_slowly(pair: Pair, pieces: list[bytes], pause: float) -> list[bytes]:
    connection, client = pair

    def send() -> None:
        for piece in pieces:
            time.sleep(pause)
            client.sendall(piece)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        return [connection.recv(len(piece)) for piece in pieces]
    finally:
        sender.join()


def test_what_was_collected_comes_first(pair: Pair) -> None:
    connection, client = pair
    client.sendall(b"third")
    connection.begin_request(b"firstsecond", 30, patient=True)
    assert [connection.recv(5), connection.recv(6), connection.recv(100)] == [b"first", b"second", b"third"]
    connection.begin_request(b"unread", 30, patient=True)
    assert connection.take_unread() == b"unread"


def test_the_head_of_an_answer_is_sent_with_the_beginning_of_its_body(pair: Pair) -> None:
    connection, client = pair
    client.setblocking(False)
    connection.hold_head()
    connection.sendall(b"head ")
    with pytest.raises(BlockingIOError):
        client.recv(100)
    client.settimeout(30)
    connection.sendall(b"body ")
    assert client.recv(100) == b"head body "
    connection.sendall(b"more")
    connection.send_head()
    assert client.recv(100) == b"more"


def test_a_head_without_a_body_is_sent(pair: Pair) -> None:
    connection, client = pair
    connection.hold_head()
    connection.send(b"continue ")
    connection.sendall(b"head")
    connection.send_head()
    connection.send_head()
    connection.sendall(b" next")
    assert b"".join(client.recv(1) for _ in range(18)) == b"continue head next"


@pytest.mark.slow
def test_the_head_comes_before_a_long_part_of_a_body(pair: Pair) -> None:
    connection, client = pair
    connection.hold_head()
    connection.sendall(b"head")
    body = bytes(2 * client_socket._SENT_WITH_HEAD)
    sender = threading.Thread(target=connection.sendall, args=(body,))
    sender.start()
    received = b""
    while len(received) < 4 + len(body):
        received += client.recv(2**20)
    sender.join()
    assert received == b"head" + body


def test_a_client_that_sends_nothing_is_given_up(pair: Pair) -> None:
    connection, _ = pair
    connection.begin_request(b"", 0.05, patient=True)
    with pytest.raises(TimeoutError):
        connection.recv(1)


@pytest.mark.slow
def test_a_client_that_sends_enough_is_waited_for(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_socket, "MIN_BODY_RATE", 1)
    pair[0].begin_request(b"", 5, patient=True)
    pieces = [b"%d" % number * 10 for number in range(9)]
    assert received_slowly(pair, pieces, 0.02) == pieces


@pytest.mark.slow
def test_a_client_that_sends_too_little_is_given_up(pair: Pair) -> None:
    pair[0].begin_request(b"", 0.3, patient=True)
    with pytest.raises(TimeoutError):
        received_slowly(pair, [b"x"] * 30, 0.05)


@pytest.mark.slow
def test_however_much_was_sent_a_pause_is_bounded(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_socket, "MAX_SILENCE_SECONDS", 0.1)
    connection, client = pair
    connection.begin_request(b"", 30, patient=True)
    client.sendall(b"x" * 100_000)
    count = 0
    while count < 100_000:
        count += len(connection.recv(65536))
    with pytest.raises(TimeoutError):
        connection.recv(1)


@pytest.mark.slow
def test_the_time_in_which_nobody_waits_for_the_client_does_not_count(pair: Pair) -> None:
    connection, client = pair
    connection.begin_request(b"", 0.2, patient=True)
    time.sleep(0.4)  # the service is busy with something else
    client.sendall(b"x")
    assert connection.recv(1) == b"x"


@pytest.mark.slow
def test_a_client_that_takes_nothing_is_disconnected(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_socket, "TAKE_SECONDS", 0.3)
    connection, client = pair
    with pytest.raises(BrokenPipeError):
        connection.sendall(b"x" * 50_000_000)
    connection.close()
    with pytest.raises(ConnectionResetError):
        read_all(client)


@pytest.mark.slow
def test_a_client_that_takes_a_little_at_a_time_gets_all(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_socket, "TAKE_SECONDS", 5)
    connection, client = pair
    size, count = 10_000_000, 0
    sender = threading.Thread(target=connection.sendall, args=(b"x" * size,))
    sender.start()
    while count < size:
        count += len(client.recv(200_000))
        time.sleep(0.005)
    sender.join()
    assert count == size


@pytest.mark.slow
@pytest.mark.parametrize("patient", [True, False])
def test_without_a_place_a_client_has_less_time(
    pair: Pair, waits: Waits, monkeypatch: pytest.MonkeyPatch, patient: bool
) -> None:
    monkeypatch.setattr(client_socket, "IMPATIENT_SECONDS", 0.1)
    connection, _ = pair
    connection.begin_request(b"", 30, patient=patient)
    with waits.for_taking(patient=patient) as seconds:  # the only place
        assert seconds == (client_socket.TAKE_SECONDS if patient else 0.1)
        began = time.monotonic()
        with pytest.raises(BrokenPipeError):
            connection.sendall(b"x" * 50_000_000)
        assert time.monotonic() - began < client_socket.TAKE_SECONDS


@pytest.mark.slow
@pytest.mark.parametrize("what", ["recv", "sendall"])
def test_a_stop_ends_a_wait_that_has_begun(pair: Pair, waits: Waits, what: str) -> None:
    connection, _ = pair
    connection.begin_request(b"", 30, patient=True)
    timer = threading.Timer(0.2, lambda: setattr(waits, "ends_at", time.monotonic()))
    timer.start()
    began = time.monotonic()
    with pytest.raises(TimeoutError if what == "recv" else BrokenPipeError):
        _ = connection.recv(1) if what == "recv" else connection.sendall(b"x" * 50_000_000)
    assert time.monotonic() - began < 15
    timer.join()


@pytest.mark.slow
def test_an_answer_is_broken_off_soon_after_its_client_lost_the_permission(pair: Pair) -> None:
    connection, client = pair
    allowed = threading.Event()
    allowed.set()
    connection.begin_request(b"", 30, patient=True)
    connection.go_on_while(allowed.is_set)
    got = 0

    def read() -> None:
        nonlocal got
        while got < 2**20:
            got += len(client.recv(65536))
        allowed.clear()  # and from now on the client takes nothing

    reader = threading.Thread(target=read)
    reader.start()
    with pytest.raises(BrokenPipeError, match="any more"):
        connection.sendall(b"x" * 50_000_000)
    reader.join()
    connection.close()
    with pytest.raises(ConnectionResetError):
        read_all(client)


def test_an_answer_in_pieces_is_broken_off_too(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_socket, "_CHECK_SECONDS", 0.0)
    connection, _ = pair
    connection.begin_request(b"", 30, patient=True)
    connection.go_on_while(lambda: True)
    connection.sendall(b"first")
    connection.sendall(b"second")
    connection.may_go_on = lambda: False
    with pytest.raises(BrokenPipeError):
        connection.sendall(b"third")


def test_what_came_of_a_request_is_sent_whatever_became_of_the_permission_meanwhile(pair: Pair) -> None:
    connection, client = pair
    connection.begin_request(b"", 30, patient=True)
    connection.go_on_while(lambda: False)
    connection.sendall(b"answer")
    assert client.recv(100) == b"answer"


def test_a_body_is_not_read_further_once_its_client_lost_the_permission(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_socket, "_CHECK_SECONDS", 0.0)
    connection, client = pair
    connection.begin_request(b"first", 30, patient=True)
    connection.go_on_while(lambda: False)
    assert connection.recv(5) == b"first"
    client.sendall(b"second")
    with pytest.raises(PermissionError):
        connection.recv(6)


def test_a_permission_is_that_of_one_request(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_socket, "_CHECK_SECONDS", 0.0)
    connection, client = pair
    connection.go_on_while(lambda: False)
    connection.begin_request(b"", 30, patient=True)
    client.sendall(b"next")
    assert connection.recv(4) == b"next"
