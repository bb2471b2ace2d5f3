"""The layers of the house: import-linter's contracts, as they stand in pyproject.toml."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
ROOMS = ("eventvault", "app", "worker")

VIOLATIONS = {
    "The core knows neither Flask nor the rooms above it": ("eventvault/files.py", "flask"),
    "A layer of the core imports only from layers below it": (
        "eventvault/database/keys.py",
        "eventvault.journal.folder",
    ),
    "A restore: a start uses the route, the route uses moments and the swap": (
        "eventvault/restore/swap/intent.py",
        "eventvault.restore.moments.plan",
    ),
    "The worker opens no event database and no BackupManager": ("worker/supervisor.py", "eventvault.database.registry"),
    "A supervisor runs no handler": ("worker/supervisor.py", "worker.registry"),
    "The edge knows nothing of the worker": ("app/query.py", "worker.jobs"),
    "A worker alone imports the built-in jobs": ("app/jobs/answers.py", "app.builtin_jobs.webhook"),
    "The edge opens no database itself": ("app/query.py", "plyvel"),
    "The dispatcher of jobs opens no event database and serves no HTTP": (
        "app/dispatcher/opening.py",
        "eventvault.store.service",
    ),
    "The store process serves no HTTP": ("app/store/scheduler.py", "app.replies"),
    "Streams know no route": ("app/streams/messages.py", "app.events.schemas"),
    "Commands over HTTP need nothing of this machine": ("app/cli/remote/lines.py", "app.replies"),
    "LevelDB's files are read without the rest of EventVault": ("eventvault/leveldb/log.py", "eventvault.files"),
    "The doctor is asked by nothing of the core": ("eventvault/backup_manager.py", "eventvault.doctor.gather"),
    "The command line builds no application": ("app/cli/text.py", "flask"),
    "What commands share knows no command": ("app/cli/text.py", "app.cli.events.lines"),
    "Nothing imports the benchmarks": ("app/query.py", "benchmarks.report"),
    "A port imports no implementation": ("eventvault/store/ports/health.py", "eventvault.store.owners.health"),
    "An owner of a port knows neither the socket nor the process": (
        "eventvault/store/owners/backups.py",
        "eventvault.store.rpc.wire",
    ),
}
"""Contract → a file, and an import that breaks the contract when it stands in that file."""


def contracts() -> list[str]:
    configuration = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    return [contract["name"] for contract in configuration["tool"]["importlinter"]["contracts"]]


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    return subprocess.run(
        [sys.executable, "-c", command, "--no-cache"], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_every_layer_imports_only_what_its_contract_allows() -> None:
    outcome = lint_imports(PROJECT)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


@pytest.mark.slow
@pytest.mark.parametrize("contract", contracts())
def test_an_import_that_breaks_a_contract_is_found(contract: str, tmp_path: Path) -> None:
    for room in ROOMS:
        shutil.copytree(PROJECT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "pyproject.toml", tmp_path)
    file, module = VIOLATIONS[contract]
    path = tmp_path / file
    path.write_text(path.read_text() + f"\nimport {module}\n")

    outcome = lint_imports(tmp_path)

    assert outcome.returncode == 1, outcome.stdout + outcome.stderr
    assert f"{contract} BROKEN" in " ".join(outcome.stdout.split())


def test_kafka_stays_in_its_adapter_and_the_worker() -> None:
    found = [
        path.relative_to(PROJECT)
        for room in ROOMS
        for path in (PROJECT / room).rglob("*.py")
        if "confluent_kafka" in path.read_text()
    ]
    strays = [path for path in found if path.parts[0] != "worker" and path.parts[:2] != ("eventvault", "kafka")]
    assert not strays
