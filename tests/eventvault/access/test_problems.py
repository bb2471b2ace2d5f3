"""What health says of the files of the tokens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from eventvault import data_folders, small_files
from eventvault.access.changes import TokenChanges
from eventvault.access.problems import token_problems
from eventvault.access.token_files import TokenFiles
from eventvault.settings import Settings, load
from tests.stores import running_service


@pytest.fixture
def settings(settings_environment: dict[str, str]) -> Settings:
    return load(settings_environment)


def codes(settings: Settings) -> list[str]:
    return [problem.code for problem in token_problems(settings)]


def test_good_files_are_no_problem(settings: Settings) -> None:
    assert codes(settings) == []
    TokenChanges(settings).create("a", "read", by="shell")
    assert codes(settings) == []


def _damage(settings: Settings) -> None:
    (settings.backup_dir / data_folders.TOKENS).write_bytes(b"{")


def _lose(settings: Settings) -> None:
    for folder in (settings.storage_dir, settings.backup_dir):
        (folder / data_folders.TOKENS).unlink()


def _replace(settings: Settings) -> None:
    path = settings.backup_dir / data_folders.TOKENS
    content = small_files.read_bytes(path).replace(b'"register": "', b'"register": "0')
    line = content.index(b"\n", 2) + 1
    import hashlib

    digest = hashlib.sha256(b"{\n" + content[line:]).hexdigest().encode()
    path.write_bytes(b'{\n "checksum": "sha256:%s",\n' % digest + content[line:])


@pytest.mark.parametrize(
    ("spoil", "code"), [(_damage, "tokens_damaged"), (_lose, "tokens_gone"), (_replace, "tokens_foreign")]
)
def test_a_bad_file_is_named_with_what_to_do(settings: Settings, spoil: Callable[[Settings], None], code: str) -> None:
    TokenChanges(settings).create("a", "read", by="shell")
    spoil(settings)
    (problem,) = token_problems(settings)
    assert problem.code == code
    assert "flask tokens create admin --scope admin" in problem.hint


def test_a_file_of_api_tokens_that_is_not_valid_is_named(settings_environment: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text("nonsense")
    assert codes(load({**settings_environment, "API_TOKENS_FILE": str(path)})) == ["tokens_file_invalid"]


@pytest.mark.slow
def test_health_names_them_and_a_copy_that_was_mended_until_its_remains_are_removed(settings: Settings) -> None:
    TokenChanges(settings).create("a", "read", by="shell")
    _damage(settings)
    with running_service(settings) as service:
        assert [problem["code"] for problem in service.status()["problems"]] == ["tokens_damaged"]
        TokenFiles(settings).settle()
        (problem,) = service.status()["problems"]
        assert (problem["code"], "tokens.json.damaged" in problem["message"]) == ("tokens_damaged", True)
        (settings.backup_dir / f"{data_folders.TOKENS}.damaged").unlink()
        assert service.status()["status"] == "ok"
