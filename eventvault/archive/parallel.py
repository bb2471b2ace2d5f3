"""Work of an archive on several cores, in order and in bounded memory: what is heavy releases the interpreter lock."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from eventvault.archive.layout import MAX_MEMBER_BYTES

MAX_THREADS = 4
"""More would need more memory than a backup may take."""

T = TypeVar("T")

_buffers = threading.local()


def thread_count() -> int:
    """How many threads work on an archive: one a core that this process may use, at most `MAX_THREADS`."""
    return max(1, min(MAX_THREADS, len(os.sched_getaffinity(0))))


def in_order(jobs: Iterable[Callable[[], T]], threads: int | None = None) -> Generator[T, None, None]:
    """The results of `jobs` in their order, worked on by `threads`; jobs are asked for only as they are needed.

    The first exception ends it, once what had begun has ended; so it does when the caller stops asking (`close`).
    """
    count = thread_count() if threads is None else threads
    waiting: deque[Future[T]] = deque()
    asked = iter(jobs)
    with ThreadPoolExecutor(count, thread_name_prefix="archive") as pool:
        try:
            waiting.extend(pool.submit(job) for job in islice(asked, count + 2))
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(pool.submit(job) for job in islice(asked, 1))
                yield result
        finally:
            for future in waiting:
                future.cancel()


def read_buffer() -> memoryview:
    """A buffer of this thread for one piece or member, used again by its next job; allocating is slower."""
    if not hasattr(_buffers, "view"):
        _buffers.view = memoryview(bytearray(MAX_MEMBER_BYTES))
    view: memoryview = _buffers.view
    return view


class OrderedHash:
    """The SHA-256 of a file whose pieces are worked on by several threads: each piece waits for those before it.

    Jobs begin in order, so the piece that is waited for is always at work.
    """

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._next = 0
        self._broken = False
        self._turn = threading.Condition()

    def update(self, number: int, content: bytes | memoryview) -> None:
        """Add the piece of that number, counted from 0."""
        with self._turn:
            self._turn.wait_for(lambda: self._next == number or self._broken)
        self._sha256.update(content)
        with self._turn:
            self._next += 1
            self._turn.notify_all()

    def give_up(self) -> None:
        """A piece will not come: whoever waits for it must not wait for ever. Their result is not used."""
        with self._turn:
            self._broken = True
            self._turn.notify_all()

    def hexdigest(self) -> str:
        return self._sha256.hexdigest()
