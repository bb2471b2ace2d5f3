"""How many processors this process may use: fewer than the machine has if its container has a quota."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from eventvault.regular_files import read_file

_OWN_GROUP = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")
_OF_VERSION_2 = "0::/"


def usable(own_group: Path = _OWN_GROUP, groups: Path = _GROUPS) -> float:
    """Return how many processors the threads of this process may use together, which need not be a whole number."""
    return min([len(os.sched_getaffinity(0)), *_quotas(own_group, groups)])


def _quotas(own_group: Path, groups: Path) -> Iterator[float]:
    """Yield the quotas of the control group (version 2) that this process is in, and of those around it.

    In a container, the group's path may be that of the host, and only its root exists here.
    """
    path = ""
    with suppress(OSError):
        lines = os.fsdecode(read_file(own_group)).splitlines()
        path = next((line.removeprefix(_OF_VERSION_2) for line in lines if line.startswith(_OF_VERSION_2)), "")
    own = groups / path
    for group in (own, *own.parents):
        if group.is_relative_to(groups):
            with suppress(OSError, ValueError):  # there is no quota: "max", or no such file
                quota, period = map(int, read_file(group / "cpu.max").split())
                yield quota / period
