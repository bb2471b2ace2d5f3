"""Measures each part of a backup alone on this machine, and derives the minimum time of a whole one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3
from isal import isal_zlib

from eventvault.archive.compression import deflate
from eventvault.files import IO_BYTES, write_at

_PIECE = 2 * 2**20
_LEAST, _MOST = 50 * 10**6, 100 * 10**6
_ROUNDS = 3


@dataclass(frozen=True)
class Speed:
    """Bytes per second, of one thread and of one thread per core together."""

    one: float
    all: float


@dataclass(frozen=True)
class Limits:
    """speeds: by part. ratio: compressed size of a table by its size. cores: those that this process may use."""

    speeds: dict[str, Speed]
    ratio: float
    cores: int

    def or_better(self, other: Limits) -> Limits:
        """Return the better speed of both for each part, because other load only slows down."""
        best = {
            what: Speed(max(one.one, other.speeds[what].one), max(one.all, other.speeds[what].all))
            for what, one in self.speeds.items()
        }
        return Limits(best, self.ratio, self.cores)

    def table(self) -> str:
        rows = [f"| part, alone | MB/s, one thread | {self.cores} threads |", "|---|---|---|"]
        rows += [f"| {what} | {speed.one / 1e6:,.0f} | {speed.all / 1e6:,.0f} |" for what, speed in self.speeds.items()]
        return "\n".join(rows)

    def floors(self, size: int) -> dict[str, float]:
        """Return the minimum seconds for a database of `size` bytes: of all cores, or of the disk if it takes longer.

        A first backup hashes and compresses every file, hashes each member, writes it, and reads it back against its
        hash. A second one copies the members and hashes them; where blocks are shared, it only hashes. A restore hashes
        the archive, inflates, hashes and writes every file. All that is written is on the disk at the end.
        """
        archive = size * self.ratio
        digest, write, disk = (self.speeds[part].all for part in ("BLAKE3", "write", "write and fsync"))
        first = size / self.speeds["compress"].all + (size + 2 * archive) / digest + archive / write
        second = archive / self.speeds["copy_file_range"].one + archive / digest
        restore = size / self.speeds["inflate"].all + (size + archive) / digest + size / write
        least = {"first": (first, archive), "second": (second, archive), "restore": (restore, size)}
        return {part: max(seconds, written / disk) for part, (seconds, written) in least.items()}


def measure(database: Path, folder: Path) -> Limits:
    """Measure on up to 100 MB of the files of `database`, with temporary files in `folder`."""
    contents = [path.read_bytes()[:_PIECE] for path in sorted(database.iterdir())[: _MOST // _PIECE]]
    tables = [content for content in contents if content] * (1 + _LEAST // max(1, sum(map(len, contents))))
    total = sum(map(len, tables))
    packed = [deflate(table, "fast") for table in tables]
    cores = len(os.sched_getaffinity(0))
    numbered = list(enumerate(tables))
    parts: dict[str, Callable[[tuple[int, bytes]], object]] = {
        "compress": lambda piece: deflate(piece[1], "fast"),
        "inflate": lambda piece: isal_zlib.decompressobj(-15).decompress(packed[piece[0]], len(piece[1]) + 1),
        "BLAKE3": lambda piece: blake3(piece[1]).digest(),
        "write": lambda piece: _write(folder / f"limit-{piece[0]}", piece[1]),
        "write and fsync": lambda piece: _write(folder / f"limit-{piece[0]}", piece[1], synced=True),
        "copy_file_range": lambda piece: _copy(
            folder / f"limit-{piece[0]}", folder / f"copy-{piece[0]}", len(piece[1])
        ),
    }
    speeds = {
        what: Speed(*(_speed(part, numbered, total, count) for count in (1, cores))) for what, part in parts.items()
    }
    for path in folder.glob("limit-*"):
        path.unlink()
        path.with_name(path.name.replace("limit", "copy")).unlink()
    return Limits(speeds, sum(map(len, packed)) / total, cores)


def _speed(
    part: Callable[[tuple[int, bytes]], object], pieces: Sequence[tuple[int, bytes]], total: int, threads: int
) -> float:
    best = 0.0
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(part, pieces))
        best = max(best, total / (time.perf_counter() - began))
    return best


def _write(path: Path, content: bytes, *, synced: bool = False) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    write_at(handle, content, 0)
    if synced:
        os.fsync(handle)
    os.close(handle)


def _copy(source: Path, target: Path, size: int) -> None:
    reading, writing = os.open(source, os.O_RDONLY), os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    done = 0
    while done < size:
        done += os.copy_file_range(reading, writing, min(IO_BYTES, size - done), done, done)
    os.close(reading)
    os.close(writing)
