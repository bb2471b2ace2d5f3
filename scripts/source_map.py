"""Write the tables of `docs/source-map.md` from the docstrings of the packages and their modules.

Run by `make docs`. It parses the sources and imports none of them. The text above the marker is written by hand.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
PAGE = PROJECT / "docs" / "source-map.md"
ROOTS = ("eventvault", "app", "worker", "benchmarks")
MARKER = "<!-- Written by `make docs` from the docstrings: edit those, not this. -->"


def page(project: Path = PROJECT) -> str:
    """The content of `docs/source-map.md` in `project`: its hand-written head and the tables as the sources have them.

    Raises ValueError if a package or a module has no docstring, or if the page has no marker.
    """
    head, marker, _ = (project / PAGE.relative_to(PROJECT)).read_text().partition(MARKER)
    if not marker:
        raise ValueError(f"{PAGE.name} has no line {MARKER!r}")
    sections = [section(project, folder) for root in ROOTS for folder in folders(project / root)]
    return "\n".join([head + marker, "", *sections])


def folders(root: Path) -> Iterator[Path]:
    """`root` and the packages below it, each in front of those it holds."""
    return (path.parent for path in sorted(root.rglob("__init__.py"), key=lambda path: path.parent.parts))


def section(project: Path, folder: Path) -> str:
    """The heading of a package, its docstring, and a table of its modules."""
    lines = [f"### `{folder.relative_to(project)}/`", "", docstring(folder / "__init__.py"), ""]
    modules = sorted(path for path in folder.glob("*.py") if path.name != "__init__.py")
    if modules:
        lines += ["| module | what it is |", "|---|---|"]
        lines += [f"| `{path.name}` | {first_sentence(docstring(path))} |" for path in modules]
        lines.append("")
    return "\n".join(lines)


def docstring(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text()))
    if not text:
        raise ValueError(f"{path} has no docstring: say in its first sentence what the module is for")
    return text


def first_sentence(text: str) -> str:
    """The first sentence of a docstring on one line, ready for a cell of a table."""
    paragraph = " ".join(text.partition("\n\n")[0].split())
    sentence = re.match(r".+?[.?!](?=\s|$)", paragraph)
    return (sentence[0] if sentence else paragraph).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page())
