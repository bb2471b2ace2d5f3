"""What a shell is offered for the name of a backup, whatever is in `BACKUP_DIR`, and how little is loaded for it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from app.cli.completion import backup_items
from tests.app.test_command_tree import HEAVY
from tests.service import PROJECT

ARCHIVES = ["backup_2026-11-28_204914.tar.gz", "backup_2026-11-27_092913.tar.gz"]


@pytest.fixture
def backups(settings_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in settings_environment.items():
        monkeypatch.setenv(name, value)
    folder = Path(settings_environment["BACKUP_DIR"])
    folder.mkdir(parents=True)
    for name in (*ARCHIVES, "notes.txt", ".hidden.tar.gz", "line\nbreak.tar.gz", "\x1b[31m.tar.gz"):
        (folder / name).touch()
    return folder


def offered(incomplete: str = "") -> list[str]:
    return [item.value for item in backup_items(incomplete)]


def test_the_newest_names_come_first_and_nothing_that_controls_a_terminal(backups: Path) -> None:
    assert offered() == ARCHIVES
    assert offered("backup_2026-11-27") == ARCHIVES[1:]
    assert offered("c") == []


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"archives": []}', b'{"archives": {"a": 1}}', b"\xff", b"[" * 10_000]
)
def test_a_damaged_catalogue_costs_only_what_it_tells(backups: Path, content: bytes) -> None:
    catalogue = backups / ".catalogue.json"
    catalogue.write_bytes(content)
    assert offered() == ARCHIVES
    assert catalogue.read_bytes() == content


def test_a_name_is_offered_with_what_the_catalogue_knows(backups: Path) -> None:
    records = {ARCHIVES[0]: {"summary": {"events": 1234, "label": "a\nb\x1b[31m"}}, ARCHIVES[1]: {"summary": None}}
    (backups / ".catalogue.json").write_text(json.dumps({"archives": records}))
    assert [item.help for item in backup_items("")] == ["1,234 events, a\\nb\\x1b[31m", None]


def test_where_nothing_can_be_read_nothing_is_offered(backups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKUP_DIR", str(backups / "gone"))
    assert offered() == []
    monkeypatch.setenv("PORT", "none")
    assert offered() == []


@pytest.mark.slow
@pytest.mark.parametrize(("line", "answer"), [("eventvault ba", "backup"), ("eventvault backup show b", ARCHIVES[0])])
def test_a_tab_loads_nothing_that_it_does_not_need(
    backups: Path, settings_environment: dict[str, str], line: str, answer: str
) -> None:
    program = (
        "import sys, atexit\n"
        "atexit.register(lambda: print(*sorted({each.partition('.')[0] for each in sys.modules}), file=sys.stderr))\n"
        "from app.cli import main\nmain()"
    )
    asked = {"_EVENTVAULT_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**settings_environment, **asked, "PATH": "/usr/bin:/bin"},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert f"plain,{answer}" in done.stdout.splitlines()
    assert HEAVY & set(done.stderr.split()) == set()
