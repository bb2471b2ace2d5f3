"""Returns freed memory to the system, which the C library would keep: see mallopt(3) and malloc_trim(3).

`malloc_trim` does not return the free end of an arena, and each thread may use another arena. Such an end may be twice
as large as the largest block that was ever freed: with answers of 8 MB, 28 threads held more than 200 MB.
"""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
THRESHOLD = 2**20


def bound_freed_memory(threshold: int = THRESHOLD) -> None:
    """Fix the thresholds of this process. Otherwise the C library raises them, up to 64 MiB, as large blocks are freed.

    threshold: bytes. A larger block is returned as soon as it is freed, and so is a larger free end of an arena. Blocks
    that are returned each time take more of the processor: a commit or a page of 2 MB takes 20 to 30 % more.
    """
    for parameter in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):
        _call("mallopt", parameter, threshold)


def return_freed_memory() -> None:
    """Return the free pages in the middle of the arenas. This may take some milliseconds."""
    _call("malloc_trim", 0)


def _call(name: str, *arguments: int) -> None:
    """Call a function of the C library. Does nothing if there is no such function, as in musl."""
    function = getattr(_C_LIBRARY, name, None)
    if function is not None:
        function(*arguments)


_C_LIBRARY = ctypes.CDLL(None)
