"""Exit statuses: each number has its name in one module, and no other module ends a process with a number."""

from __future__ import annotations

import ast
import signal
from collections.abc import Iterator

import pytest

from app.error_codes import ANSWERS, REMOTE
from eventvault import exit_statuses
from eventvault.exit_statuses import INTERRUPTED, SIGNALLED, STATUSES
from eventvault.settings import PROJECT

ENDINGS = {"exit", "_exit", "SystemExit", "Exit", "end_process"}


def numbers_of_exits(source: str) -> Iterator[int]:
    """Yield the line of each exit, and each return of a `main`, that has a number in the place of a name."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and name_of(node.func) in ENDINGS:
            yield from (argument.lineno for argument in node.args if has_number(argument))
        elif isinstance(node, ast.keyword) and node.arg == "exit_status" and has_number(node.value):
            yield node.value.lineno
        elif isinstance(node, ast.FunctionDef) and node.name == "main":
            returns = [inner for inner in ast.walk(node) if isinstance(inner, ast.Return) and inner.value is not None]
            yield from (inner.lineno for inner in returns if inner.value is not None and has_number(inner.value))


def name_of(called: ast.expr) -> str:
    return called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""


def has_number(value: ast.expr) -> bool:
    if isinstance(value, ast.IfExp | ast.BinOp | ast.BoolOp):
        return any(has_number(part) for part in ast.iter_child_nodes(value) if isinstance(part, ast.expr))
    return isinstance(value, ast.Constant) and type(value.value) is int


def test_no_process_ends_with_a_number_without_a_name() -> None:
    folders = [PROJECT / name for name in ("eventvault", "app", "worker", "scripts")]
    modules = [*PROJECT.glob("*.py"), *(path for folder in folders for path in folder.rglob("*.py"))]
    assert len(modules) > 500
    found = [f"{path}:{line}" for path in modules for line in numbers_of_exits(path.read_text())]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "sys.exit(130)",
        "os._exit(128 + number)",
        "raise SystemExit(FAILED if failed else 8)",
        "end_process(1)",
        "ErrorCode('cause', exit_status=2)",
        "def main() -> int:\n    if broken:\n        return 1\n    return DONE",
    ],
)
def test_a_number_without_a_name_is_found(source: str) -> None:
    assert list(numbers_of_exits(source))


def test_every_name_has_a_number_of_its_own() -> None:
    numbers = [value for value in vars(exit_statuses).values() if type(value) is int]
    assert len(set(numbers)) == len(numbers) == 13
    assert INTERRUPTED == SIGNALLED + signal.SIGINT


def test_the_status_of_each_error_is_one_of_a_command() -> None:
    declared = [*ANSWERS.values(), *REMOTE.values()]
    used = {code.exit_status for code in declared if code.exit_status is not None}
    assert len(used) > 5
    assert used <= set(STATUSES)
