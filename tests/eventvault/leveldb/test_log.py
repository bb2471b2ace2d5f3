"""The log reader against a writer of its own and against files that LevelDB wrote."""

from __future__ import annotations

import io
from pathlib import Path

import plyvel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventvault.leveldb import log as log_module
from eventvault.leveldb.log import Ending, LogEnd, LogReader
from tests.eventvault.leveldb.log_writer import BLOCK, HEADER, fragment, write_log

SIZES = st.one_of(st.integers(0, 40), st.integers(BLOCK - 30, BLOCK + 30), st.just(3 * BLOCK))
LOGS = st.lists(st.builds(lambda size, fill: bytes([fill]) * size, SIZES, st.integers(0, 255)), max_size=12)
FEW = settings(max_examples=60, deadline=None)


def read(log: bytes, size: int | None = None) -> tuple[list[bytes], LogEnd]:
    reader = LogReader(io.BytesIO(log), size)
    return list(reader), reader.end


@pytest.mark.slow
@FEW
@given(LOGS)
def test_records_of_any_size_come_back_and_the_log_ends_cleanly(records: list[bytes]) -> None:
    log = write_log(records)
    assert read(log) == (records, LogEnd(Ending.CLEAN, len(log)))


@pytest.mark.slow
@FEW
@given(LOGS, st.data())
def test_a_log_cut_anywhere_gives_its_whole_records_and_is_never_damaged(
    records: list[bytes], data: st.DataObject
) -> None:
    log = write_log(records)
    size = data.draw(st.integers(0, len(log)))
    found, end = read(log, size)
    whole = sum(len(write_log(records[: count + 1])) <= size for count in range(len(records)))
    assert found == records[:whole]
    assert end.ending is not Ending.DAMAGED
    assert end.offset == len(write_log(records[:whole]))
    assert read(log[:size]) == (found, end)


@pytest.mark.slow
@FEW
@given(st.data())
def test_any_flipped_bit_before_the_last_record_is_damage(data: st.DataObject) -> None:
    """Text in the records, as in a database of JSON: binary zeros and ones could pass for headers."""
    sizes = data.draw(
        st.lists(st.one_of(st.integers(1, 60), st.integers(BLOCK - 20, BLOCK + 20)), min_size=2, max_size=6)
    )
    records = [bytes([65 + number]) * size for number, size in enumerate(sizes)]
    log = write_log(records)
    before_last = write_log(records[:-1])
    bit = data.draw(st.integers(0, len(before_last) * 8 - 1))
    broken = bytearray(log)
    broken[bit // 8] ^= 1 << bit % 8
    found, end = read(bytes(broken))
    in_trailer = read(bytes(broken)) == (records, LogEnd(Ending.CLEAN, len(log)))
    if in_trailer:
        assert BLOCK - (bit // 8) % BLOCK < HEADER
    else:
        assert end.ending is Ending.DAMAGED
        assert end.offset <= bit // 8
        assert found == records[: len(found)]
        assert len(write_log(records[: len(found)])) == end.offset


@pytest.mark.slow
@FEW
@given(LOGS.filter(bool), st.data())
def test_a_flipped_bit_in_the_last_record_is_a_torn_tail(records: list[bytes], data: st.DataObject) -> None:
    log = write_log(records)
    start = len(write_log(records[:-1]))
    bit = data.draw(st.integers((len(log) - len(records[-1])) * 8, len(log) * 8 - 1)) if records[-1] else start * 8
    broken = bytearray(log)
    broken[bit // 8] ^= 1 << bit % 8
    found, end = read(bytes(broken))
    if (found, end.ending) != (records, Ending.CLEAN):
        assert (found, end.ending, end.offset) == (records[:-1], Ending.TORN, start)


@pytest.mark.parametrize("reserved", [1, 6, 7, 100, 3 * BLOCK])
def test_zeros_beyond_the_last_record_are_reserved_space_and_a_clean_end(reserved: int) -> None:
    log = write_log([b"one", b"two"])
    found, end = read(log + b"\0" * reserved)
    assert (found, end.ending, end.offset) == ([b"one", b"two"], Ending.CLEAN, len(log))


def test_zeros_that_good_records_follow_are_damage() -> None:
    log = bytearray(write_log([b"a" * (BLOCK - HEADER), b"b" * (BLOCK - HEADER), b"c"]))
    log[BLOCK : 2 * BLOCK] = bytes(BLOCK)
    found, end = read(bytes(log))
    assert (found, end.ending, end.offset) == ([b"a" * (BLOCK - HEADER)], Ending.DAMAGED, BLOCK)
    assert f"good record after it at offset {2 * BLOCK}" in end.reason


def test_a_record_whose_first_block_never_reached_the_disk_is_a_torn_tail_although_its_rest_did() -> None:
    log = bytearray(write_log([b"a" * (BLOCK - HEADER), b"b" * (3 * BLOCK)]))
    log[BLOCK : 2 * BLOCK] = bytes(BLOCK)
    found, end = read(bytes(log))
    assert (found, end.ending, end.offset) == ([b"a" * (BLOCK - HEADER)], Ending.TORN, BLOCK)


def test_a_record_that_begins_inside_another_is_damage() -> None:
    log = fragment(2, b"begun") + fragment(1, b"whole")
    found, end = read(log)
    assert (found, end.ending, end.offset) == ([], Ending.DAMAGED, 0)


def test_the_end_of_a_record_without_its_beginning_is_a_torn_tail_when_nothing_follows() -> None:
    found, end = read(write_log([b"whole"]) + fragment(3, b"middle") + fragment(4, b"last"))
    assert (found, end.ending) == ([b"whole"], Ending.TORN)


def test_an_empty_first_fragment_of_early_leveldb_versions_is_passed_over() -> None:
    assert read(fragment(2, b"") + fragment(1, b"whole"))[0] == [b"whole"]


def test_a_fragment_of_an_unknown_type_is_bad_although_its_checksum_is_right() -> None:
    found, end = read(write_log([b"one"]) + fragment(9, b"?") + fragment(1, b"two"))
    assert (found, end.ending) == ([b"one"], Ending.DAMAGED)


def test_the_end_is_not_known_before_the_log_was_read() -> None:
    with pytest.raises(RuntimeError, match="not been read to its end"):
        _ = LogReader(io.BytesIO(write_log([b"one"]))).end


def test_what_leveldb_wrote_is_read_record_by_record(tmp_path: Path) -> None:
    database = plyvel.DB(str(tmp_path / "db"), create_if_missing=True)
    values = [bytes([number % 256]) * (number * 37 % 70_000) for number in range(200)]
    for number, value in enumerate(values):
        database.put(b"%04d" % number, value)
    database.close()
    (path,) = (tmp_path / "db").glob("*.log")
    with path.open("rb") as file:
        reader = LogReader(file)
        records = list(reader)
    assert [record[-len(value) :] if value else b"" for record, value in zip(records, values, strict=False)] == values[
        : len(records)
    ]
    assert reader.end == LogEnd(Ending.CLEAN, path.stat().st_size)
    assert len(records) > 50


@pytest.mark.parametrize("after", [[], [b"more"]])
def test_a_record_that_would_fill_the_memory_is_damage(after: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "MAX_RECORD_BYTES", 3 * BLOCK)
    whole, longer = b"a" * 3 * BLOCK, b"b" * (3 * BLOCK + 1)

    found, end = read(write_log([whole, longer, *after]))

    assert found == [whole]
    assert (end.ending, end.offset) == (Ending.DAMAGED, len(write_log([whole])))
    assert "longer than" in end.reason
