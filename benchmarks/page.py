"""Writes `docs/benchmarks.md`: each benchmark replaces its own section only."""

from __future__ import annotations

import re
from pathlib import Path

from eventvault.files import write_durably

TITLE = "# Benchmarks\n\nEach section is written by the command that it names, on the machine that it describes.\n"


def write_section(path: Path, name: str, text: str) -> None:
    """Replace the section of that name, or append it if it is missing. The write is durable."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    page = path.read_text() if path.exists() else TITLE
    section = f"{begin}\n{text.strip()}\n{end}"
    pattern = re.compile(re.escape(begin) + r".*?" + re.escape(end), re.DOTALL)
    if not pattern.search(page):
        page = f"{page.rstrip()}\n\n{section}\n"
    write_durably(path, pattern.sub(lambda _: section, page, count=1).encode())
