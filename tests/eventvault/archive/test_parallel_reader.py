"""Work on several cores: in order, bounded, ended in order whatever goes wrong; and one file without the others."""

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from eventvault.archive import layout, reader, writer
from eventvault.archive.compression import at_least, deflate
from eventvault.archive.parallel import OrderedHash, in_order
from eventvault.errors import ArchiveDamaged, InvalidInput


def test_results_come_in_the_order_of_the_jobs():
    first_may_end = threading.Event()

    def slow() -> int:
        assert first_may_end.wait(60)
        return 0

    def quick(number: int) -> int:
        first_may_end.set()
        return number

    jobs = [slow, *(partial(quick, number) for number in range(1, 20))]
    assert list(in_order(jobs, 2)) == list(range(20))


def test_jobs_are_asked_for_only_as_they_are_needed():
    asked = 0

    def jobs() -> Iterator[partial]:
        nonlocal asked
        for number in range(100):
            asked += 1
            yield partial(int, number)

    results = in_order(jobs(), 2)
    next(results)
    assert asked <= 5
    results.close()
    assert asked <= 6


def test_the_first_error_ends_it_and_nothing_is_at_work_any_more():
    working = set()

    def work(number: int) -> int:
        working.add(number)
        try:
            if number == 3:
                raise ValueError("three")
            return number
        finally:
            working.discard(number)

    seen = []
    with pytest.raises(ValueError, match="three"):
        seen.extend(in_order((partial(work, number) for number in range(50)), 2))
    assert working == set()


def test_a_file_is_hashed_in_its_order_whichever_thread_comes_first():
    chained, pieces = OrderedHash(), [bytes([number]) * 1000 for number in range(8)]
    threads = [threading.Thread(target=chained.update, args=each) for each in reversed(list(enumerate(pieces)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert chained.hexdigest() == hashlib.sha256(b"".join(pieces)).hexdigest()


def test_who_waits_for_a_piece_that_will_not_come_goes_on():
    chained = OrderedHash()
    thread = threading.Thread(target=chained.update, args=(1, b"second"))
    thread.start()
    chained.give_up()
    thread.join(60)
    assert not thread.is_alive()


@pytest.mark.parametrize("compression", ["fast", "small", "store"])
def test_no_member_is_longer_than_is_read(compression):
    import os

    content = os.urandom(layout.CHUNK + layout.BLOCK)
    assert len(deflate(content, compression)) + 18 <= layout.MOST_MEMBER


def test_what_is_smaller_may_stand_in_for_what_is_larger():
    assert at_least("small", "fast")
    assert at_least("fast", "store")
    assert not at_least("store", "fast")
    assert not at_least("fast", "small")


def test_one_file_is_had_without_reading_the_others(own, database_files, tmp_path):
    content = bytearray(own.read_bytes())
    content[300] ^= 1
    own.write_bytes(content)
    for name, expected in database_files.items():
        if name != "000005.ldb":
            reader.extract(own, name, tmp_path / name)
            assert (tmp_path / name).read_bytes() == expected


def test_one_file_is_checked_and_a_damaged_one_not_left(own, tmp_path):
    with pytest.raises(InvalidInput, match=r"no file '../x'"):
        reader.extract(own, "../x", tmp_path / "x")
    content = own.read_bytes()
    place = content.index(b"same again") if b"same again" in content else None
    assert place is None, "it is compressed"
    with reader.opened(own) as archive:
        file = next(f for f in reader.find_spans(archive).files if f.record.name == "000005.ldb")
    damaged = bytearray(content)
    damaged[file.places[0][0] + 40] ^= 1
    own.write_bytes(damaged)
    with pytest.raises(ArchiveDamaged):
        reader.extract(own, "000005.ldb", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_file_of_several_members_is_had_alone(staging: Path, about, tmp_path):
    content = bytes(range(256)) * 40_000
    (staging / "000011.ldb").write_bytes(content)
    writer.write_archive(tmp_path / "a.tar.gz", staging, about)
    reader.extract(tmp_path / "a.tar.gz", "000011.ldb", tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == content
