"""Writes the results as a section of the page: what was measured, its target, and the machine."""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from benchmarks.page import write_section

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
LOAD_BEFORE = os.getloadavg()[0]
"""Load of the machine before the run, because figures from a busy machine are unreliable."""


def add_options(parser: argparse.ArgumentParser, *, workers: int | None = None) -> None:
    """Add the options that benchmarks share. workers: how many serve by default; None: it is no option."""
    if workers is not None:
        parser.add_argument("--workers", type=int, default=workers, help="number of gunicorn workers")
    parser.add_argument("--folder", type=Path, default=None, help="folder for the data (default: a temporary one)")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page to write")


@dataclass(frozen=True)
class Row:
    what: str
    measured: str
    target: str = ""
    met: bool | None = None

    def cells(self) -> tuple[str, ...]:
        return self.what, self.measured, self.target, {True: "yes", False: "no", None: ""}[self.met]


@dataclass
class Report:
    """Collects rows and prints each at once, so that an interrupted run still shows results."""

    title: str
    rows: list[Row] = field(default_factory=list)

    def add(self, row: Row) -> None:
        self.rows.append(row)
        print("  ".join(cell for cell in row.cells() if cell), flush=True)

    def table(self) -> str:
        lines = [("what", "measured", "target", "met"), ("---",) * 4, *(row.cells() for row in self.rows)]
        return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def machine(folder: Path) -> str:
    """Return a description of the machine without its name."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores ({platform.machine()}), {memory:.0f} GB of memory, {platform.system()}, "
        f"data on {file_system(folder)}, Python {platform.python_version()}, gunicorn {version('gunicorn')}, "
        f"Flask {version('flask')}. The machine's load in the minute before it began: {LOAD_BEFORE:.1f}"
    )


def file_system(folder: Path) -> str:
    """Return the type of the file system of `folder`, from the longest mount point above it."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    above = [(point, kind) for point, kind in mounts if folder.resolve().is_relative_to(point)]
    return max(above, key=lambda mount: len(mount[0]), default=("", "an unknown file system"))[1]


@contextmanager
def measuring(options: argparse.Namespace, title: str, introduction: str) -> Iterator[tuple[Path, Report]]:
    """Yield a folder for the data and a report, then write the report's section of the page; none after an error."""
    results = Report(title)
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="eventvault-benchmark-") as name:
        yield Path(name), results
        write(options.page, introduction, results, Path(name))
    print(f"written: {options.page}")


def write(path: Path, introduction: str, report: Report, folder: Path) -> None:
    """Write the report's section of the page. Other sections do not change."""
    text = f"## {report.title}\n\n{introduction}\nMeasured on: {machine(folder)}.\n\n{report.table()}"
    write_section(path, report.title, text)
