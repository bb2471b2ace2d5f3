"""Each command as a user gives it, through the store of a running service, and through a store of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.cli.connection import Connection
from app.cli.root import root
from tests.service import Service
from tests.states.verbs import commands

STARTED = "No service runs: a store was started for this command.\n"
NAMES = ("backup", "operations", "problems", "notify")
"""Of the groups whose commands are here; others have tests of their own."""
QUICK = {"JOURNAL_INTERVAL": "100", "AUTO_BACKUP_ENABLED": "false"}

Run = Callable[..., Result]


@pytest.fixture(params=["service", "own store"])
def run(
    request: pytest.FixtureRequest,
    service: Callable[..., Service],
    settings_environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Run]:
    """Runs a command in this process: it finds settings and store as one in a process of its own does."""
    for name, value in {**settings_environment, **QUICK}.items():
        monkeypatch.setenv(name, value)
    if request.param == "service":
        service(workers=1, environment=QUICK)
    connections: list[Connection] = []

    def run(*words: str, status: int = 0) -> Result:
        connections.append(Connection())
        done = CliRunner().invoke(root(), list(words), obj=connections[-1], prog_name="flask")
        assert done.exit_code == status, (words, done.output, done.exception)
        expected = request.param == "own store" and len(connections) == 1
        assert (STARTED in done.stderr) == expected, (words, done.stderr)
        return done

    yield run
    for connection in connections:
        with suppress(AttributeError):
            connection.store.close()  # type: ignore[attr-defined]
    if request.param == "own store":
        spawner = connections[0].store.spawner  # type: ignore[attr-defined]
        spawner.end("")
        assert spawner.wait_until_gone(30)


def test_each_command_works(run: Run, tmp_path: Path) -> None:
    name = json.loads(run("backup", "create", "first", "--json").stdout)["name"]
    assert run("backup", "list", "-q").stdout == f"{name}\n"
    assert name in run("backup", "show", name).stdout
    assert "GENERATION" in run("backup", "timeline").stdout
    assert run("backup", "verify", name).stdout == f"{name} is good: every byte is as it was made.\n"
    assert run("backup", "pin", name).stdout == f"{name} is kept from rotation.\n"
    assert "KEEP" in run("backup", "prune", "--dry-run").stdout
    assert run("backup", "unpin", name).stdout == f"{name} may be removed by rotation again.\n"
    assert run("backup", "prune", "--yes").stdout == "Nothing was removed: a rule keeps each backup.\n"
    assert f"Going back to {name}" in run("backup", "restore", name, "--dry-run").stdout
    assert f"Back at {name}: 0 events" in run("backup", "restore", name, "--yes").stdout
    assert "previous-" in run("backup", "undo", "--list").stdout
    assert "As it was: 0 events" in run("backup", "undo", "--yes").stdout
    into = tmp_path / "events.ndjson"
    assert run("backup", "restore", name, "--into", str(into)).stdout == f"{into}  0 events, 0 bytes\n"
    copied = run("backup", "restore", name, "--into", "present", "--yes").stdout
    assert copied == "0 events match: 0 appended as new, 0 there already.\n"
    assert "both share" in run("backup", "diff", "now", "now", "--summary").stdout
    copy = tmp_path / "copy.tar.gz"
    assert str(copy) in run("backup", "download", name, "-o", str(copy)).stdout
    assert run("backup", "upload", str(copy)).stdout.startswith("copy.tar.gz was taken in: 0 events")
    assert run("backup", "delete", "copy.tar.gz", "--yes").stdout == "copy.tar.gz was removed.\n"
    assert "Restored " in run("backup", "rehearse").stdout
    assert "Nothing is trusted" in run("backup", "trust", "--list").stdout
    assert run("problems", "list").stdout == "No problems.\n"
    assert "HINT: " in run("problems", "accept", "rolled_back", "--yes", status=3).stderr
    assert "NOTIFY_URLS" in run("notify", "test", status=78).stderr
    newest = json.loads(run("operations", "list", "--json").stdout)["operations"][0]["id"]
    assert newest in run("operations").stdout
    assert newest in run("operations", "watch", newest[:10]).stdout
    assert run("operations", "cancel", newest[:10], status=4).stdout == ""
    assert "nothing was changed" in run("backup", "recover", "--yes", status=4).stderr


def test_all_commands_are_here() -> None:
    page = Path(__file__).read_text()
    there = [each for each in commands() if each.split()[1] in NAMES]
    assert [each for each in there if 'run("' + '", "'.join(each.split()[1:]) + '"' not in page] == []
