"""Names use the field's words: none of those that only this project ever understood (docs/style.md)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
ROOMS = ("eventvault", "app", "worker", "benchmarks")
PRIVATE_WORDS = frozenset(
    ["kept", "left", "said", "standing", "steady", "tidy", "aside", "growing", "taken", "given", "told", "way"]
)


def words(name: str) -> set[str]:
    """The words of a name, split at underscores and capitals, in lower case."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of each function, class, parameter, variable and attribute that the code defines."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, name
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name
            case ast.ExceptHandler(name=str(name)) | ast.alias(asname=str(name)) | ast.MatchAs(name=str(name)):
                yield node.lineno, name


def private_names(source: str) -> list[tuple[int, str]]:
    return [(line, name) for line, name in names(ast.parse(source)) if words(name) & PRIVATE_WORDS]


@pytest.mark.slow
@pytest.mark.parametrize("room", ROOMS)
def test_no_name_has_a_private_word(room: str) -> None:
    paths = sorted((PROJECT / room).rglob("*.py"))
    assert paths
    found = [f"{path}: module" for path in paths if words(path.stem) & PRIVATE_WORDS]
    found += [f"{path}:{line}: {name}" for path in paths for line, name in private_names(path.read_text())]
    assert found == []


def test_a_private_word_is_found_wherever_it_stands() -> None:
    source = """
class KeptDatabase: ...
def see(way_to, *, given): self.left_over = told = [said for said in way_to]
import x as aside
"""
    assert {name for _, name in private_names(source)} == {
        "KeptDatabase", "way_to", "given", "left_over", "told", "said", "aside",
    }  # fmt: skip
    assert private_names("away = always = lefty = standings = 1") == []
