"""`flask backup recover`, as a process of its own on a lost STORAGE_DIR."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from eventvault import exit_statuses
from eventvault.access.changes import TokenChanges
from eventvault.access.register import TokenRegister
from eventvault.errors import TokenWrong
from eventvault.settings import load
from tests import processes
from tests.command_line import Command
from tests.end_to_end.test_command_line import on_terminal
from tests.service import Service

QUICK = {"JOURNAL_INTERVAL": "100", "AUTO_BACKUP_ENABLED": "false"}


@pytest.fixture(scope="module")
def journaled(module_service: Callable[..., Service]) -> Path:
    """The path of a backup of two events; three were journaled beside it."""
    running = module_service(workers=1, environment=QUICK)
    running.post("/api/events", [{"id": "a", "type": "t"}, {"id": "b", "type": "t"}])
    wait_for_journal(running, 2)
    backups = running.folder("BACKUP_DIR")
    shutil.copytree(backups / "journal", backups.with_name("journal of two events"))
    archive = running.post("/api/backup/create").json()["backupPath"]
    running.post("/api/events", {"id": "c", "type": "t"})
    wait_for_journal(running, 3)
    running.stop()
    return Path(archive)


def wait_for_journal(running: Service, last: int) -> None:
    processes.wait_until(
        lambda: running.get("/api/health").json()["journal"]["lastSequence"] == last, f"event {last} is not journaled"
    )


@pytest.fixture
def lost(journaled: Path, settings_environment: dict[str, str]) -> str:
    """The name of a backup of two events, of three that were journaled; there is no storage/."""
    shutil.copytree(journaled.parent, settings_environment["BACKUP_DIR"])
    return journaled.name


def test_it_brings_back_what_was_journaled(flask: Command, lost: str, service: Callable[..., Service]) -> None:
    done = flask("backup", "recover", "--yes", "--json")

    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["success"], said["events"], said["source"], said["reason"]) == (True, 3, lost, "recovered")
    running = service(workers=1)
    assert [event["id"] for event in running.get("/api/events").json()["events"]] == ["a", "b", "c"]
    assert running.get("/api/health").json()["status"] == "ok"


def test_it_keeps_the_rest_of_a_database_that_a_removal_left(
    flask: Command, lost: str, settings_environment: dict[str, str]
) -> None:
    storage = Path(settings_environment["STORAGE_DIR"])
    (storage / "event_registry_db").mkdir(parents=True)
    (storage / "event_registry_db" / "000123.log").write_bytes(b"rest")
    done = flask("backup", "recover", "--yes")

    assert done.returncode == 0, done.stderr
    assert "3 events were recovered" in done.stdout
    assert "its remaining files are in previous-unread-" in done.stdout
    assert [file.read_bytes() for file in storage.glob("previous-unread-*/000123.log")] == [b"rest"]


def test_it_says_what_it_did_without(
    flask: Command, journaled: Path, lost: str, settings_environment: dict[str, str]
) -> None:
    journal = Path(settings_environment["BACKUP_DIR"]) / "journal"
    # The archive is verified, so the journal may have removed what it holds.
    shutil.copytree(journaled.parent.with_name("journal of two events"), journal, dirs_exist_ok=True)
    archive = Path(settings_environment["BACKUP_DIR"]) / lost
    content = bytearray(archive.read_bytes())
    content[len(content) // 10] ^= 0xFF  # in a file of the database: the end, which lists look at, stays good
    archive.write_bytes(content)
    done = flask("backup", "recover", "--yes")

    assert done.returncode == 0, done.stderr
    assert "3 events were recovered from the journal" in done.stdout
    assert "done without: " in done.stdout
    assert lost in done.stdout


def test_tokens_of_another_installation_are_taken_on_request_only(
    flask: Command, lost: str, settings_environment: dict[str, str], tmp_path: Path
) -> None:
    theirs = load({name: str(tmp_path / "theirs" / name) for name in ("STORAGE_DIR", "BACKUP_DIR", "RESTORE_DIR")})
    token = TokenChanges(theirs).create("theirs", "admin", by="shell").text
    ours = load(settings_environment)
    shutil.copy(theirs.backup_dir / "tokens.json", ours.backup_dir)
    done = flask("backup", "recover", "--yes")
    assert (done.returncode, "--with-tokens would have taken them" in done.stdout) == (0, True)
    with pytest.raises(TokenWrong):
        TokenRegister(ours).credential_of(token)

    shutil.rmtree(ours.storage_dir)
    done = flask("backup", "recover", "--yes", "--with-tokens")
    assert (done.returncode, "1 valid token was taken from BACKUP_DIR" in done.stdout) == (0, True)
    assert TokenRegister(ours).credential_of(token).name == "theirs"
    shutil.rmtree(ours.storage_dir)
    (ours.backup_dir / "tokens.json").write_text("{")
    done = flask("backup", "recover", "--yes", "--with-tokens")
    assert (done.returncode, done.stdout) == (3, "")
    assert not ours.database.exists()


def test_it_asks_first(flask: Command, lost: str, settings_environment: dict[str, str]) -> None:
    database = Path(settings_environment["STORAGE_DIR"]) / "event_registry_db"
    with on_terminal(settings_environment, "backup", "recover") as refused:
        refused.wait_for("1 archive and the journal? [y/N]")
        refused.type("n\n")
        assert refused.end() == 1
    assert flask("backup", "recover", given="y\n").returncode == 5, "a pipe is nobody"
    assert not database.exists()

    with on_terminal(settings_environment, "backup", "recover") as recovering:
        recovering.wait_for("[y/N]")
        recovering.type("y\n")
        assert recovering.end() == 0, recovering.shown
    assert database.exists()


def test_as_json_it_cannot_ask_and_says_so(flask: Command, lost: str, settings_environment: dict[str, str]) -> None:
    for given in ("", "y\n"):
        done = flask("backup", "recover", "--json", given=given)

        assert done.returncode == exit_statuses.INVALID, done.stderr
        said = json.loads(done.stdout)
        assert (said["success"], said["code"]) == (False, "invalid")
        assert "--yes" in said["hint"]
    assert not (Path(settings_environment["STORAGE_DIR"]) / "event_registry_db").exists()


def test_bad_settings_are_said_as_json_too(flask: Command) -> None:
    done = flask("backup", "recover", "--yes", "--json", MAX_BODY_BYTES="abc", MAX_BACKUPS="0")

    assert done.returncode == exit_statuses.INVALID_SETTINGS
    said = json.loads(done.stdout)
    assert (said["success"], said["code"], bool(said["hint"])) == (False, "invalid_settings", True)
    assert all(name in " ".join(said["problems"]) for name in ("MAX_BODY_BYTES", "MAX_BACKUPS"))
    plain = flask("backup", "recover", "--yes", MAX_BACKUPS="0")
    assert (plain.returncode, plain.stdout) == (exit_statuses.INVALID_SETTINGS, "")
    assert "MAX_BACKUPS" in plain.stderr


def test_a_database_that_is_there_is_left_alone(flask: Command, lost: str) -> None:
    assert flask("backup", "recover", "--yes").returncode == 0
    for recover in ("true", "false", "empty"):
        done = flask("backup", "recover", "--yes", "--json", AUTO_RECOVER=recover)

        assert done.returncode == exit_statuses.CONFLICT, recover
        assert json.loads(done.stdout)["code"] == "database_present"


def test_nothing_is_made_where_there_is_nothing_to_recover(
    flask: Command, settings_environment: dict[str, str]
) -> None:
    done = flask("backup", "recover", "--yes")

    assert done.returncode == exit_statuses.NOT_FOUND
    assert "HINT: set BACKUP_DIR" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (Path(settings_environment["STORAGE_DIR"]) / "event_registry_db").exists()


def test_it_refuses_while_a_service_runs(flask: Command, lost: str, service: Callable[..., Service]) -> None:
    running = service(workers=1, wait=False)
    processes.wait_until(lambda: "database_missing" in running.log() or "is gone, and" in running.log(), "no refusal")
    done = flask("backup", "recover", "--yes", "--json")

    assert done.returncode == exit_statuses.CONFLICT
    assert json.loads(done.stdout)["code"] == "service_running"
    assert "flask backup recover" in running.get("/api/health").json()["problems"][0]["hint"]


@pytest.mark.parametrize("arguments", [["--help"], ["backup", "--help"], ["routes"]])
def test_looking_at_the_commands_starts_nothing(
    flask: Command, settings_environment: dict[str, str], arguments: list[str]
) -> None:
    done = flask(*arguments)

    assert done.returncode == 0, done.stderr
    assert not (Path(settings_environment["STORAGE_DIR"]) / "store.sock").exists()
    assert not (Path(settings_environment["STORAGE_DIR"]) / "event_registry_db").exists()


def test_a_loss_that_nobody_accepted_is_refused_until_somebody_does(
    flask: Command, lost: str, settings_environment: dict[str, str]
) -> None:
    segments = sorted(Path(settings_environment["BACKUP_DIR"]).glob("journal/*/segment_*"))
    segments[-1].rename(segments[-1].with_name(f"{segments[-1].name}.damaged"))

    refused = flask("backup", "recover", "--yes")
    assert refused.returncode == exit_statuses.NOT_FOUND
    assert "had events up to 3" in refused.stderr
    assert "flask problems accept recovery_incomplete" in refused.stderr
    listed = json.loads(flask("problems", "list", "--json").stdout)["problems"]
    assert "recovery_incomplete" in [problem["code"] for problem in listed if problem["acceptable"]]

    assert flask("problems", "accept", "recovery_incomplete", "--yes").returncode == 0
    done = flask("backup", "recover", "--yes", "--json")
    assert (done.returncode, json.loads(done.stdout)["events"]) == (0, 2)
