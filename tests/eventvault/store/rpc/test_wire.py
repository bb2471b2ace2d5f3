"""What travels over the socket, to the byte where programs of two versions meet."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest

from eventvault.rpc import frames
from eventvault.settings import Settings
from eventvault.store.ports import methods
from eventvault.store.rpc import wire
from eventvault.store.rpc.client import StoreClient

HELLO = b"\x08\x00\x00\x00\x92\xa5hello\x90"
PING = b"\x07\x00\x00\x00\x92\xa4ping\x90"
END = b"\x11\x00\x00\x00\x92\xa3end\x91\xaagunicorn-1"
END_ANY = b"\x07\x00\x00\x00\x92\xa3end\x91\xa0"
HELLO_OF_PROTOCOL_5 = (
    b"B\x00\x00\x00\x92\xc3\x85\xa8protocol\x05\xa7version\xa50.1.0\xa3pid\xcd\x10\x92"
    b"\xa7service\xaagunicorn-1\xa4mode\xa7service"
)
TRUE, FALSE, NONE = (b"\x03\x00\x00\x00\x92\xc3" + value for value in (b"\xc3", b"\xc2", b"\xc0"))
"""Frames that EventVault 0.1.0 with protocol 5 sent and read."""


def test_the_connections_own_requests_are_those_of_every_version() -> None:
    assert frames.framed(wire.request("hello")) == HELLO
    assert frames.framed(wire.request("ping")) == PING
    assert frames.framed(wire.request("end", "gunicorn-1")) == END
    assert frames.framed(wire.request("end", "")) == END_ANY
    assert [wire.read_request(frame[4:]) for frame in (HELLO, END)] == [("hello", ()), ("end", ("gunicorn-1",))]


def test_their_replies_are_those_of_every_version() -> None:
    old = wire.StoreHello(5, "0.1.0", 4242, "gunicorn-1", "service")
    assert frames.framed(wire.reply(old)) == HELLO_OF_PROTOCOL_5
    assert [frames.framed(wire.reply(value)) for value in (True, False, None)] == [TRUE, FALSE, NONE]
    assert wire.read_reply("hello", HELLO_OF_PROTOCOL_5[4:]) == old
    assert wire.read_reply("end", TRUE[4:]) is True


def test_a_program_of_protocol_5_learns_who_the_store_is_and_ends_it(
    store_client: StoreClient, settings: Settings
) -> None:
    hello = store_client.spawner.hello()
    assert hello is not None
    with closing(frames.connect(settings.storage_dir / "store.sock", timeout=60)) as connection:
        connection.sendall(HELLO)
        assert receive_all(connection) == frames.framed(wire.reply(hello))
        connection.sendall(PING)
        assert receive_all(connection) == NONE
        connection.sendall(END)
        assert receive_all(connection) == FALSE, "it belongs to another service"
        connection.sendall(END_ANY)
        assert receive_all(connection) == TRUE
    assert hello.protocol == wire.PROTOCOL != 5


def receive_all(connection: socket.socket) -> bytes:
    return frames.framed(frames.receive(connection))


def test_arguments_are_put_in_the_order_of_the_signature() -> None:
    delete, get = methods.ALL["delete_backup"], methods.ALL["get"]
    assert delete.ordered(("a",), {}) == ("a", False)
    assert delete.ordered((), {"force": True, "name": "a"}) == ("a", True)
    assert delete.named(("a", True)) == (("a",), {"force": True})
    assert get.ordered(("a",), {"recorded_to": 5}) == ("a", None, 5)
    for arguments, named in (((), {}), (("a",), {"name": "b"}), (("a",), {"other": 1}), (("a", 1, 2, 3), {})):
        with pytest.raises(TypeError):
            get.ordered(arguments, named)
