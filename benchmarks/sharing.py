"""Measures second backups, and the disk that ten hourly backups take, on file systems that share blocks."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import peers, serving
from benchmarks.peers import PEERS
from tests import mounts
from tests.service import Service

MEGABYTE = 10**6
HOURS = 10
KINDS = ("xfs", "btrfs")
COMPARED = ("tar czf", "tar + zstd -T0", "restic", "borg lz4")
TARGETS = {("xfs", "tar czf"): 150, ("xfs", "borg lz4"): 1.5}
"""How many times faster than the program a second backup should be."""
MOST_OF_CLONE, MOST_OF_BORG = 5, 1.2
INTRODUCTION = """\
The same second backup where the file system shares blocks, and the disk that {hours} hourly backups take there, each
with 1 % more events: free space before and after, without the journal. Only the backups lie on the file system, which
is in a file that is mounted as a disk."""
States = tuple[Path, ...]
Mirror = Callable[[Path, Path], None]


def measure(folder: Path, states: States, mirror: Mirror, create: Callable[[Service], float]) -> str:
    """Return a section of the page. states: the database with 0 %, 1 %, 2 % … more events."""
    rows = ["| on | what | EventVault | other | ratio | target | met |", "|---|---|---|---|---|---|---|"]
    without = []
    for kind in KINDS:
        try:
            with tempfile.TemporaryDirectory(dir=folder) as place, mounts.mount(kind, Path(place), 10 * 1024) as disk:
                rows += _rows(kind, disk, folder / "local", states, mirror, create)
        except mounts.CannotMount as reason:
            without.append(f"{kind} was not measured: {reason}.")
    return "\n\n".join([INTRODUCTION.format(hours=HOURS), "\n".join(rows), *without])


def _rows(
    kind: str, disk: Path, local: Path, states: States, mirror: Mirror, create: Callable[[Service], float]
) -> Iterator[str]:
    with _emptied(disk, local):
        seconds, ours = _hourly(disk, local, states, mirror, create)
    for name, took in _others(disk, local, states[:2], mirror).items():
        yield _row(kind, f"second backup: {name}", seconds[1], took, TARGETS.get((kind, name)))
    with _emptied(disk, local):
        took = _clone(disk, states[1])
        met = "yes" if seconds[1] <= MOST_OF_CLONE * took else "no"
        yield (
            f"| {kind} | `cp -r --reflink=always` of the database | {seconds[1]:.2f} s | {took:.2f} s"
            f" | {seconds[1] / took:.1f} × its time | {MOST_OF_CLONE} × | {met} |"
        )
    with _emptied(disk, local):
        borg = _hourly_borg(disk, local, states, mirror)
    met = "yes" if ours <= MOST_OF_BORG * borg else "no"
    yield (
        f"| {kind} | disk of {HOURS} backups: borg lz4 | {ours / MEGABYTE:,.0f} MB | {borg / MEGABYTE:,.0f} MB"
        f" | {ours / borg:.2f} × its disk | {MOST_OF_BORG} × | {met} |"
    )


def _row(kind: str, what: str, ours: float, other: float, target: float | None) -> str:
    ratio = other / ours
    wanted, met = (f"{target:g}×", "yes" if ratio >= target else "no") if target else ("", "")
    return f"| {kind} | {what} | {ours:.2f} s | {other:.2f} s | {ratio:.1f}× | {wanted} | {met} |"


@contextmanager
def _emptied(*folders: Path) -> Iterator[None]:
    """Run the block with empty folders, and empty them afterwards."""
    for folder in folders:
        folder.mkdir(exist_ok=True)
    try:
        yield
    finally:
        for folder in folders:
            for path in folder.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _hourly(
    disk: Path, local: Path, states: States, mirror: Mirror, create: Callable[[Service], float]
) -> tuple[list[float], int]:
    before, seconds = _used(disk), []
    backups = disk / "backups"
    for state in states:
        mirror(state, local / "STORAGE_DIR" / state.name)
        with serving.caught_up(local, {"BACKUP_DIR": str(backups)}) as service:
            seconds.append(create(service))
    return seconds, _used(disk) - before - peers.size_of(backups / "journal")


def _others(disk: Path, local: Path, states: States, mirror: Mirror) -> dict[str, float]:
    """Return the seconds of each program's second backup."""
    seconds = {}
    for peer in PEERS:
        if peer.name in COMPARED and peers.installed(peer):
            with _emptied(disk, local):
                places = _places(disk, local)
                for command in (peer.setup, peer.first, peer.second):
                    state = states[command == peer.second]
                    mirror(state, Path(places["data"]) / state.name)
                    os.sync()
                    if command:
                        seconds[peer.name] = peers.run(command, places)[0]
    return seconds


def _places(disk: Path, local: Path) -> dict[str, str]:
    places = {"data": str(local / "data"), "work": str(disk / "work"), "cache": str(local / "cache")}
    for path in places.values():
        Path(path).mkdir()
    return places


def _clone(disk: Path, state: Path) -> float:
    shutil.copytree(state, disk / "data")
    os.sync()
    places = {"disk": str(disk), "cache": str(disk)}
    return min(peers.run(f"cp -r --reflink=always {{disk}}/data {{disk}}/copy-{n}", places)[0] for n in range(3))


def _hourly_borg(disk: Path, local: Path, states: States, mirror: Mirror) -> int:
    before, places = _used(disk), _places(disk, local)
    peers.run("borg init --encryption none {work}/repository", places)
    for hour, state in enumerate(states):
        mirror(state, Path(places["data"]) / state.name)
        create = f"cd {{data}} && borg create --compression lz4 {{work}}/repository::{hour} {state.name}"
        peers.run(create, places)
    return _used(disk) - before


def _used(disk: Path) -> int:
    os.sync()
    figures = os.statvfs(disk)
    return (figures.f_blocks - figures.f_bfree) * figures.f_frsize
