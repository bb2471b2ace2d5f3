"""`make bench-full-disk`: measures how soon posts go on once a disk that took nothing takes something again.

It mounts small disks, so it must be run as root. `--help` lists all options.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks import report, serving
from tests import mounts, processes
from tests.service import Service

INTRODUCTION = """\
Made by `make bench-full-disk`, as root, with `STORAGE_DIR` on an ext4 of 64 MB. The disk is filled until posts are
answered 507, and then the filling is removed; or it is read-only when the service starts, and is then made writable. A
client posts an event, and again 20 ms after each refusal. The time is that from the removal of the cause to the first
answer 201. The store is killed before the inodes run out, because only the next one needs new files.
"""
EVENT = {"type": "order.shipped", "source": "/benchmark", "data": {"note": "x" * 2_000}}
TARGET_SECONDS = 2.0
PAUSE_SECONDS = 0.02


def full_in_bytes(folder: Path, rounds: int) -> Iterator[float]:
    """Yield the seconds of each round."""
    with mounts.small_ext4(folder / "STORAGE_DIR", 64, inodes=256) as disk, serving.eventvault(folder, 1) as service:
        for _ in range(rounds):
            wait_until_refused(service, lambda: mounts.fill_bytes(disk))
            free(disk)
            yield seconds_until_posted(service)


def full_in_inodes(folder: Path, rounds: int) -> Iterator[float]:
    """Yield the seconds of each round."""
    with mounts.small_ext4(folder / "STORAGE_DIR", 64, inodes=256) as disk, serving.eventvault(folder, 1) as service:
        for _ in range(rounds):
            (store,) = service.stores()
            os.kill(store, signal.SIGKILL)
            wait_until_refused(service, lambda: mounts.fill_inodes(disk))
            free(disk)
            yield seconds_until_posted(service)


def read_only(folder: Path, rounds: int) -> Iterator[float]:
    """Yield the seconds of each round."""
    with mounts.small_ext4(folder / "STORAGE_DIR", 64, inodes=256) as disk:
        with serving.eventvault(folder, 1) as service:
            assert post(service) == 201
        for _ in range(rounds):
            with mounts.read_only(disk), serving.eventvault(folder, 1) as service:
                assert post(service) == 503
                mounts.make_writable(disk)
                yield seconds_until_posted(service)


def wait_until_refused(service: Service, fill: Callable[[], None]) -> None:
    """Fill the disk again and again, as the store frees some of it, and post until that is refused."""

    def is_refused() -> bool:
        fill()
        return post(service) == 507

    processes.wait_until(is_refused, "the full disk takes posts")


def free(disk: Path) -> None:
    for filler in disk.glob("filler*"):
        filler.unlink()


def seconds_until_posted(service: Service) -> float:
    began = time.monotonic()
    while post(service) != 201:
        time.sleep(PAUSE_SECONDS)
    return time.monotonic() - began


def post(service: Service) -> int:
    return service.post("/api/events", EVENT).status


CAUSES = {"full in bytes": full_in_bytes, "without inodes": full_in_inodes, "read-only": read_only}


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench_full_disk", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="how often each cause is brought about and removed")
    report.add_options(parser)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    options = options_of(arguments)
    if os.geteuid() != 0:
        print("nothing is measured: only root may mount disks")
        return
    with report.measuring(options, "Full disks", INTRODUCTION) as (folder, results):
        for number, (cause, rounds_of) in enumerate(CAUSES.items()):
            part = folder / str(number)
            part.mkdir()
            seconds = list(rounds_of(part, options.rounds))
            times = f"{max(seconds):.2f} s, median {statistics.median(seconds):.2f} s"
            what = f"a disk that was {cause}, {options.rounds} times: the longest until a post is acknowledged"
            results.add(report.Row(what, times, f"{TARGET_SECONDS:g} s", max(seconds) <= TARGET_SECONDS))


if __name__ == "__main__":
    main()
