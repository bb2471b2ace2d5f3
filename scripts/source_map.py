"""Write `docs/modules.md` from the docstrings of the packages and their modules, and check `docs/source-map.md`.

Run by `make docs`. It parses the sources and imports none of them. `docs/source-map.md` is written by hand: for each
question it names a module and the names in it that answer.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
MAP = PROJECT / "docs" / "source-map.md"
PAGE = PROJECT / "docs" / "modules.md"
ROOTS = ("eventvault", "app", "worker", "benchmarks")
HEAD = """# Every folder and module

This page is written by `make docs` from the docstrings: edit those, not this page. [source-map.md](source-map.md)
answers where a thing is.
"""
_NAMED = re.compile(r"`([\w/]+\.py)`(?:: ((?:`[\w.]+`(?:, )?)+))?")
"""A module, and after a colon names that it defines."""


def page(project: Path = PROJECT) -> str:
    """Return the content of `docs/modules.md` for the sources in `project`.

    Raises ValueError if a package or a module has no docstring.
    """
    sections = [section(project, folder) for root in ROOTS for folder in folders(project / root)]
    return "\n".join([HEAD, *sections])


def folders(root: Path) -> Iterator[Path]:
    """Yield `root` and the packages below it, each before the packages in it."""
    return (path.parent for path in sorted(root.rglob("__init__.py"), key=lambda path: path.parent.parts))


def section(project: Path, folder: Path) -> str:
    """Return the heading of a package, its docstring, and a table of its modules."""
    lines = [f"## `{folder.relative_to(project)}/`", "", docstring(folder / "__init__.py"), ""]
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
    """Return the first sentence of a docstring on one line, ready for a cell of a table."""
    paragraph = " ".join(text.partition("\n\n")[0].split())
    sentence = re.match(r".+?[.?!](?=\s|$)", paragraph)
    return (sentence[0] if sentence else paragraph).replace("|", "\\|")


def mistakes_of_map(project: Path = PROJECT) -> list[str]:
    """Return the mistakes of `docs/source-map.md`: a module without names, a name that its module does not define."""
    mistakes = []
    for module, names in _NAMED.findall((project / MAP.relative_to(PROJECT)).read_text()):
        if not (project / module).is_file():
            mistakes.append(f"{module} is not there")
            continue
        defined = definitions(project / module)
        listed = re.findall(r"`([\w.]+)`", names)
        mistakes += [f"{module}: {name} is not there" for name in listed if name not in defined]
        if not listed:
            mistakes.append(f"{module}: name a function, a class or a constant of it")
    return mistakes


def definitions(path: Path) -> set[str]:
    """Return the names of the functions, classes and constants of a module, and `Class.method` for each method."""
    tree = ast.parse(path.read_text())
    methods = {
        f"{owner.name}.{name}" for owner in tree.body if isinstance(owner, ast.ClassDef) for name in _names(owner.body)
    }
    return methods | set(_names(tree.body))


def _names(body: list[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))


if __name__ == "__main__":
    PAGE.write_text(page())
    if mistakes := mistakes_of_map():
        raise SystemExit("\n".join([f"{MAP.name} is wrong:", *mistakes]))
