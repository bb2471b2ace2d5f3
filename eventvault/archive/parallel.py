"""Runs jobs on several cores, in order and in bounded memory. Their heavy calls release the interpreter lock."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from blake3 import blake3

from eventvault.archive.layout import MAX_MEMBER_BYTES
from eventvault.progress import JOB_SECONDS

MAX_THREADS = 4
"""More threads would need more memory than a backup may take."""

T = TypeVar("T")

_buffers = threading.local()


def thread_count() -> int:
    """Return how many threads work on an archive: one for each core of this process, at most `MAX_THREADS`."""
    return max(1, min(MAX_THREADS, len(os.sched_getaffinity(0))))


def in_order(jobs: Iterable[Callable[[], T]], threads: int | None = None) -> Generator[T, None, None]:
    """Yield the results of `jobs` in order. A job is fetched from the iterable only when a thread is free.

    The first exception, or `close`, stops the generator once the running jobs have ended.
    """
    count = thread_count() if threads is None else threads
    waiting: deque[Future[T]] = deque()
    remaining_jobs = iter(jobs)
    with ThreadPoolExecutor(count, thread_name_prefix="archive") as pool:
        try:
            waiting.extend(pool.submit(job) for job in islice(remaining_jobs, count + 2))
            while waiting:
                result = waiting.popleft().result(JOB_SECONDS)
                waiting.extend(pool.submit(job) for job in islice(remaining_jobs, 1))
                yield result
        finally:
            for future in waiting:
                future.cancel()


def read_buffer() -> memoryview:
    """Return this thread's buffer for one piece or member. Its next job uses the same one; allocating is slower."""
    if not hasattr(_buffers, "view"):
        _buffers.view = memoryview(bytearray(MAX_MEMBER_BYTES))
    view: memoryview = _buffers.view
    return view


class OrderedHash:
    """Computes the BLAKE3 of a file whose pieces several threads have: each piece waits for the previous one.

    Jobs begin in order, so the job with the previous piece is always running.
    """

    def __init__(self) -> None:
        self._hash = blake3()
        self._next = 0
        self._broken = False
        self._condition = threading.Condition()

    def update(self, number: int, content: bytes | memoryview) -> None:
        """Add piece `number`, counted from 0."""
        with self._condition:
            if not self._condition.wait_for(lambda: self._next == number or self._broken, JOB_SECONDS):
                raise TimeoutError(f"piece {self._next} of a file did not come within {JOB_SECONDS:.0f} s")
        self._hash.update(content)
        with self._condition:
            self._next += 1
            self._condition.notify_all()

    def give_up(self) -> None:
        """End all waits because a piece will not come. The hash must not be used then."""
        with self._condition:
            self._broken = True
            self._condition.notify_all()

    def hexdigest(self) -> str:
        digest: str = self._hash.hexdigest()
        return digest
