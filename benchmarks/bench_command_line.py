"""`make bench-command-line`: measures what a command and a Tab in the shell cost.

The targets apply to the default options; `--help` lists all.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import report, serving
from benchmarks.bench_health import copy_archive
from tests.service import Service

INTRODUCTION = """\
Made by `make bench-command-line`, beside a running service: each command is a process of its own, as a shell starts it.
The time is that of the processor, in user and system mode, the median of all runs; the time on the clock is beside it.
"""
COMMAND_SECONDS = 0.3
TAB_SECONDS = 0.15
PROGRAMS = Path(sys.executable).parent
"""Where scripts/install puts `eventvault` and `flask`."""


def measured(words: Sequence[str], environment: Mapping[str, str], runs: int) -> tuple[float, float]:
    """Return the median of the seconds on the processor and on the clock. Raises CalledProcessError."""
    processor, clock = [], []
    for _ in range(runs):
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        subprocess.run(words, env=environment, stdout=subprocess.DEVNULL, timeout=60, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        clock.append(time.monotonic() - began)
        processor.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(processor), statistics.median(clock)


def measure(results: report.Report, service: Service, runs: int) -> None:
    folders = {name: str(service.folder(name)) for name in ("STORAGE_DIR", "BACKUP_DIR", "RESTORE_DIR")}
    environment = {**os.environ, **folders}
    for name in ("eventvault", "flask"):
        for words in (["--help"], ["backup", "--help"], ["backup", "list"]):
            if words != ["--help"] or name == "eventvault":  # `flask --help` lists what the application has, too
                _add(results, [name, *words], " ".join([name, *words]), environment, runs, COMMAND_SECONDS)
    for line in ("eventvault b", "eventvault backup l", "eventvault backup show "):
        words = line.split(" ")
        asked = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1), "_EVENTVAULT_COMPLETE": "bash_complete"}
        _add(results, ["eventvault"], f"a Tab behind `{line}`", {**environment, **asked}, runs, TAB_SECONDS)


def _add(
    results: report.Report, words: Sequence[str], what: str, environment: Mapping[str, str], runs: int, target: float
) -> None:
    processor, clock = measured([str(PROGRAMS / words[0]), *words[1:]], environment, runs)
    times = f"{processor:.2f} s, on the clock {clock:.2f} s"
    results.add(report.Row(what, times, f"{target} s", processor <= target))


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench_command_line", description=__doc__)
    parser.add_argument("--archives", type=int, default=38, help="number of archives in BACKUP_DIR")
    parser.add_argument("--runs", type=int, default=20, help="how often each command is run")
    report.add_options(parser)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    options = options_of(arguments)
    with (
        report.measuring(options, "The command line", INTRODUCTION) as (folder, results),
        serving.eventvault(folder, 1) as service,
    ):
        copy_archive(service, service.post("/api/backup/create").json()["name"], options.archives)
        measure(results, service, options.runs)


if __name__ == "__main__":
    main()
