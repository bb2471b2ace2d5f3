from __future__ import annotations

from app.streams.messages import chunk, id_of, message, note_id
from eventvault.database.values import Head


def test_a_message_has_its_data_in_one_line() -> None:
    text = message("event", b'{"a":\r\n1,\r"b":2}', b"ab:7")
    assert text == b'id: ab:7\nevent: event\ndata: {"a":  1, "b":2}\n\n'


def test_a_position_is_noted_without_a_message() -> None:
    assert note_id(id_of(Head("ab", 7))) == b"id: ab:7\n\n"


def test_a_chunk_says_its_length() -> None:
    assert chunk(b"x" * 17) == b"11\r\n" + b"x" * 17 + b"\r\n"
