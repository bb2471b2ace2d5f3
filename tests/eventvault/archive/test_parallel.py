"""Jobs on several cores give their results in order, in bounded memory, and end cleanly whatever goes wrong."""

import threading
from collections.abc import Iterator
from functools import partial

import pytest
from blake3 import blake3

from eventvault.archive.parallel import OrderedHash, in_order


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
    assert chained.hexdigest() == blake3(b"".join(pieces)).hexdigest()


def test_who_waits_for_a_piece_that_will_not_come_goes_on():
    chained = OrderedHash()
    thread = threading.Thread(target=chained.update, args=(1, b"second"))
    thread.start()
    chained.give_up()
    thread.join(60)
    assert not thread.is_alive()
