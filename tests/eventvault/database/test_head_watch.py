from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from eventvault.database.head_watch import HeadWatch
from eventvault.database.values import Head

HERE, THERE = Head("a", 1), Head("a", 2)


def test_another_head_ends_the_wait() -> None:
    heads: list[Head | None] = [HERE]
    watch = HeadWatch(lambda: heads[0])
    assert watch.wait(THERE, 20) == HERE
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(watch.wait, HERE, 20)
        heads[0] = THERE
        watch.announce()
        assert waiting.result(60) == THERE


def test_a_closed_database_is_waited_for() -> None:
    watch = HeadWatch(lambda: None)
    assert watch.wait(HERE, 0.01) is None


def test_nobody_waits_after_the_end() -> None:
    watch = HeadWatch(lambda: HERE)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(watch.wait, HERE, 60)
        watch.end()
        assert waiting.result(60) == HERE
    assert watch.wait(HERE, 60) == HERE
