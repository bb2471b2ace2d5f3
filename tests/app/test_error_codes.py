"""Every code is declared once, every declared code is used, and each is explained in `docs/errors.md`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from app import errors_docs
from app.error_codes import ANSWERS, ATTEMPTS, FRAMEWORK, PROBLEMS, PROXY, REMOTE
from app.errors import error_body_for_status
from eventvault import errors
from eventvault.errors import EventVaultError
from eventvault.settings import PROJECT

DECLARED = ANSWERS | FRAMEWORK | PROXY | REMOTE | ATTEMPTS | PROBLEMS
STRUCTURES = {"Problem": 0, "Note": 1, "damaged_file": 3}
"""What has a code as one of its arguments, and which."""


OF_ARCHIVES = {"backup_damaged", "backup_unreadable", "seal_changed"}
"""The problems that `eventvault.backups.archive_totals` counts by their codes."""


def of_the_core() -> set[str]:
    return {error.code for error in errors._tree(EventVaultError)}


def of_the_framework() -> set[str]:
    return {error_body_for_status(status, "x")["code"] for status in range(400, 600)}


def of_nginx() -> set[str]:
    return set(re.findall(r'"code": "([a-z_]+)"', (PROJECT / "deploy" / "nginx.conf").read_text()))


def of_health() -> set[str]:
    """The codes of all problems that the sources make."""
    return codes_of(["eventvault", "app/dispatcher"], STRUCTURES) | OF_ARCHIVES


def of_attempts() -> set[str]:
    """The codes of why an attempt or a job failed. One of an unforeseen end is made from the job's state."""
    return codes_of(["eventvault", "worker"], {"JobError": 0}) - {"job_", "job_dead", "job_returned"}


def codes_of(rooms: list[str], structures: dict[str, int]) -> set[str]:
    paths = [path for room in rooms for path in sorted((PROJECT / room).rglob("*.py"))]
    return {code for path in paths for code in codes_in(ast.parse(path.read_text()), structures)}


def codes_in(tree: ast.Module, structures: dict[str, int] = STRUCTURES) -> Iterator[str]:
    """The texts that may be the code of such a structure: in its place, or in what the name there is assigned."""
    assigned: dict[str, list[ast.expr]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                pairs = zip(target.elts, node.value.elts, strict=True) if isinstance(target, ast.Tuple) and isinstance(
                    node.value, ast.Tuple) else [(target, node.value)]  # fmt: skip
                for name, value in pairs:
                    if isinstance(name, ast.Name):
                        assigned.setdefault(name.id, []).append(value)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in structures:
            place = structures[node.func.id]
            named = [each.value for each in node.keywords if each.arg == "code"]
            for argument in [*node.args[place : place + 1], *named]:
                yield from _texts(argument, assigned)


def _texts(expression: ast.expr, assigned: dict[str, list[ast.expr]]) -> Iterator[str]:
    if isinstance(expression, ast.Attribute):  # the code of an error or of a note
        return
    for node in ast.walk(expression):
        match node:
            case ast.Constant(value=str(text)) if re.fullmatch("[a-z_]{4,}", text):
                yield text
            case ast.Name(id=name) if name in assigned:
                for value in assigned.pop(name):
                    yield from _texts(value, assigned)


def test_the_codes_of_the_core_are_declared_and_no_others() -> None:
    assert set(ANSWERS) == of_the_core()


def test_the_codes_of_the_framework_are_declared_and_no_others() -> None:
    assert set(FRAMEWORK) == of_the_framework() - of_the_core()


def test_the_codes_of_nginx_are_declared_and_no_others() -> None:
    assert set(PROXY) == of_nginx() - of_the_core() - of_the_framework()


def of_commands_over_http() -> set[str]:
    tree = ast.parse((PROJECT / "app" / "cli" / "remote" / "errors.py").read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "RemoteError"]
    return {
        text.value
        for call in calls
        for text in ast.walk(call.args[0])
        if isinstance(text, ast.Constant) and isinstance(text.value, str)
    }


def test_the_codes_of_commands_over_http_are_declared_and_no_others() -> None:
    assert set(REMOTE) == of_commands_over_http() - of_the_framework() - of_the_core()


@pytest.mark.slow
def test_the_codes_of_health_are_declared_and_no_others() -> None:
    assert set(PROBLEMS) == of_health() - of_the_core()


@pytest.mark.slow
def test_the_codes_of_attempts_are_declared_and_no_others() -> None:
    assert set(ATTEMPTS) == of_attempts() - of_the_core()


@pytest.mark.parametrize("code", [*ATTEMPTS, "job_failed", "job_type_unknown", "invalid"])
def test_the_page_of_the_worker_lists_each_reason_of_an_attempt(code: str) -> None:
    assert f"`{code}`" in (PROJECT / "docs" / "worker.md").read_text()


@pytest.mark.parametrize(
    "source",
    [
        "Problem('new_code', message, hint)",
        "CODE = 'new_code'\nProblem(CODE, message, hint)",
        "A, B = 'good', 'new_code'\nNote(file, B, message, hint)",
        "_CODES = {'x': 'good', 'y': 'new_code'}\nProblem(_CODES.get(name, 'other'), message, hint)",
        "def f():\n    code = 'new_code' if a else REFUSED\n    return Problem(code, message, hint)",
        "Problem(code='new_code', message=m, hint=h)",
        "_NEW = 'new_code'\nself._state.troubles[name] = Problem(_NEW, message, hint)",
    ],
)
def test_a_new_code_of_health_is_found_wherever_it_stands(source: str) -> None:
    assert "new_code" in set(codes_in(ast.parse(source)))


def test_an_error_that_goes_away_by_itself_has_retry_after() -> None:
    assert [code for code, answer in ANSWERS.items() if answer.status == 503 and not answer.retry_after] == []


def test_each_error_of_the_core_has_a_status_of_each_kind() -> None:
    assert [
        code for code, answer in ANSWERS.items() if answer.status is None or answer.exit_status in (None, 0, 2)
    ] == []


@pytest.mark.slow
@pytest.mark.parametrize("code", DECLARED)
def test_each_code_has_a_cause_an_example_and_a_cure(code: str) -> None:
    declared = DECLARED[code]
    assert declared.cause.endswith(".")
    assert declared.cure.endswith(".")
    assert declared.example
    assert not declared.example.endswith(".")
    assert f"\n### {code}\n" in errors_docs.page()


RAISED = [
    cls
    for cls in errors._tree(EventVaultError)
    if cls.__module__ == errors.__name__ and cls is not errors.ArchiveError  # the base class of others
]


@pytest.mark.parametrize("cls", RAISED)
def test_an_error_crosses_the_socket_as_the_class_that_was_raised(cls: type[EventVaultError]) -> None:
    raised = cls("it failed", hint="do this", segment="x")
    arrived = errors.from_wire(raised.to_wire())
    assert (type(arrived), arrived.message, arrived.hint, arrived.details) == (
        cls, "it failed", "do this", {"segment": "x"},
    )  # fmt: skip


def test_nothing_lists_a_folder_in_a_form_that_hides_errors() -> None:
    """`Path.glob` takes a folder that cannot be listed for an empty one."""
    paths = sorted((PROJECT / "eventvault").rglob("*.py"))
    assert [str(path) for path in paths if re.search(r"\.r?glob\((?!.task/)", path.read_text())] == []


@pytest.mark.slow
def test_no_error_is_told_by_a_word_of_its_text() -> None:
    """`errno`, F_GETLK and the classes of LevelDB's errors decide; a path may have any word in it."""
    told = re.compile(r"""["'][^"'\n]*["'] (?:not )?in (?:str\(error|text_of\(|error\.args|reason_of\(|text\b)""")
    paths: list[Path] = [path for room in ("eventvault", "app") for path in sorted((PROJECT / room).rglob("*.py"))]
    assert [f"{path}: {found[0]}" for path in paths if (found := told.search(path.read_text()))] == []
