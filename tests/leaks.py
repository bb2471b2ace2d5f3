"""Looks for secrets and marked data where they may not be: logs, errors, command lines, environments and files."""

from __future__ import annotations

import gzip
import io
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from tests import processes

TOKEN = re.compile(rb"ev_[0-9A-Za-z]{8}_[0-9A-Za-z]{38}")
"""What looks like a token, right or wrong."""
COOKIE = re.compile(rb"__Host-ev=[\w-]{16,}")
_MARGIN = 2**16
"""Bytes that two parts of a file share, so that no mark is cut in two."""
_PART = 2**22


def secrets_in(content: bytes) -> list[bytes]:
    """Return what looks like a token or a session's cookie."""
    return sorted({*TOKEN.findall(content), *COOKIE.findall(content)})


def marks_in(content: bytes, marks: Mapping[str, bytes]) -> list[str]:
    """Return the names of the marks that are in `content`."""
    return [name for name, mark in marks.items() if mark in content]


def marks_in_file(path: Path, marks: Mapping[str, bytes]) -> list[str]:
    """Return the names of the marks that are in a file, or in what it holds compressed by gzip."""
    found: set[str] = set()
    with suppress(FileNotFoundError), path.open("rb") as file:
        for part in _parts(file):
            found.update(marks_in(part, marks))
        file.seek(0)
        if file.read(2) == b"\x1f\x8b":
            file.seek(0)
            with suppress(EOFError, OSError, zlib.error), gzip.open(file) as inflated:
                for part in _parts(inflated):
                    found.update(marks_in(part, marks))
    return sorted(found)


def _parts(file: io.BufferedIOBase | gzip.GzipFile) -> Iterator[bytes]:
    end = b""
    while piece := file.read(_PART):
        yield end + piece
        end = piece[-_MARGIN:]


def files_with(folders: list[Path], marks: Mapping[str, bytes]) -> dict[Path, list[str]]:
    """Return the regular files below these folders in which marks are, with the marks' names."""
    found = {}
    for folder in folders:
        for root, _, names in os.walk(folder):
            for path in (Path(root) / name for name in names):
                if path.is_file() and not path.is_symlink() and (there := marks_in_file(path, marks)):
                    found[path] = there
    return found


@contextmanager
def watched_processes(mark: str, marks: Mapping[str, bytes], interval: float = 0.02) -> Iterator[set[tuple[str, str]]]:
    """Yield a set that grows while the block runs: (what was seen of a process, name of the mark in it).

    mark: of the processes to watch (`tests.processes.MARK`).
    """
    seen: set[tuple[str, str]] = set()

    def look() -> None:
        for pid, command in processes.marked(mark).items():
            for file in ("cmdline", "environ"):
                with suppress(OSError):
                    content = (Path("/proc") / str(pid) / file).read_bytes()
                    seen.update((f"{file} of {command[:80]}", name) for name in marks_in(content, marks))

    with processes.repeated(look, interval):
        yield seen
