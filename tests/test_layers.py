"""The layers of the house: import-linter's contracts, as they stand in pyproject.toml."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    return subprocess.run(
        [sys.executable, "-c", command, "--no-cache"], cwd=folder, capture_output=True, text=True, check=False
    )


def test_every_layer_imports_only_what_its_law_allows() -> None:
    outcome = lint_imports(PROJECT)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def test_a_broken_law_is_found(tmp_path: Path) -> None:
    rooms = ("eventvault", "eventvault/store", "eventvault/backups", "eventvault/restore", "app", "worker")
    for room in rooms:
        (tmp_path / room).mkdir()
        (tmp_path / room / "__init__.py").write_text("")
    (tmp_path / "eventvault" / "wrong.py").write_text("import flask\n")
    (tmp_path / "pyproject.toml").write_text((PROJECT / "pyproject.toml").read_text())
    outcome = lint_imports(tmp_path)
    assert outcome.returncode == 1, outcome.stdout + outcome.stderr
    assert "eventvault.wrong -> flask" in outcome.stdout


def test_kafka_stays_in_its_adapter_and_the_worker() -> None:
    found = [
        path.relative_to(PROJECT)
        for room in ("eventvault", "app", "worker")
        for path in (PROJECT / room).rglob("*.py")
        if "confluent_kafka" in path.read_text()
    ]
    strays = [path for path in found if path.parts[0] != "worker" and path.parts[:2] != ("eventvault", "kafka")]
    assert not strays
