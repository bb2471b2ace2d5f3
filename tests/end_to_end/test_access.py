"""Tokens with the real service: in force through every change of processes, and nowhere to be seen."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from eventvault import token_text
from eventvault.access.changes import TokenChanges
from eventvault.settings import load
from tests import processes
from tests.command_line import Command
from tests.service import PROJECT, Service

QUIET = {"AUTO_BACKUP_ENABLED": "false", "JOURNAL_INTERVAL": "100"}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def setting(token: str, scope: str = "admin", name: str = "env") -> str:
    return f"{name}:{scope}:sha256={token_text.digest_of(token).hex()}"


def assert_closed(running: Service, token: str) -> None:
    """Each worker refuses what has no token and serves the token."""
    for _ in range(8):
        assert running.get("/api/events").status == 401
        assert running.get("/api/events", headers=bearer(token)).status == 200


def secrets_in_processes(running: Service, *texts: str) -> list[tuple[int, str]]:
    found = []
    for pid in running.processes():
        for name in ("cmdline", "environ"):
            with suppress(OSError):
                content = (Path("/proc") / str(pid) / name).read_bytes()
                found += [(pid, name) for text in texts if text.encode() in content]
    return found


def test_tokens_of_the_environment_outlive_every_process_and_are_in_no_environment(
    service: Callable[..., Service], tmp_path: Path
) -> None:
    token, other = token_text.new_token(), token_text.new_token()
    file = tmp_path / "tokens"
    file.write_text(setting(other, name="file"))
    environment = {**QUIET, "API_TOKENS": setting(token), "API_TOKENS_FILE": str(file)}
    running = service(workers=2, environment=environment)
    marks = (token, other, token_text.digest_of(token).hex())
    assert_closed(running, token)
    assert_closed(running, other)
    assert running.post("/api/events", {"type": "a"}, headers=bearer(token)).status == 201
    assert running.post("/api/backup/create", headers=bearer(token)).status == 200
    assert secrets_in_processes(running, *marks) == []

    before = set(running.workers())
    running.process.send_signal(signal.SIGHUP)
    processes.wait_until(
        lambda: len(running.workers()) == 2 and not before & set(running.workers()), "no workers after SIGHUP", 60
    )
    assert_closed(running, token)

    victim = running.workers()[0]
    os.kill(victim, signal.SIGKILL)
    processes.wait_until(
        lambda: len(running.workers()) == 2 and victim not in running.workers(), "no worker was reborn", 60
    )
    assert_closed(running, token)

    (store,) = running.stores()
    os.kill(store, signal.SIGKILL)
    assert running.get("/api/events").status == 401
    processes.wait_until(
        lambda: running.get("/api/health/ready").status == 200 and running.stores() != [store], "no new store", 60
    )
    assert_closed(running, token)

    running.process.send_signal(signal.SIGUSR2)
    try:
        processes.wait_until(lambda: running.log().count(" serves ") == 3, "the second master has no store", 60)
        running.process.send_signal(signal.SIGTERM)
        running.process.wait(60)
        assert_closed(running, token)
        assert_closed(running, other)
        assert secrets_in_processes(running, *marks) == []
        assert not any(mark in running.log() for mark in marks)
    finally:
        processes.kill({pid: name for pid, name in running.processes().items() if "gunicorn" in name}, signal.SIGTERM)


def test_an_open_address_needs_a_token_and_the_refusal_names_the_command(
    service: Callable[..., Service], flask: Command, tmp_path: Path
) -> None:
    refused = service(workers=1, environment={**QUIET, "HOST": "0.0.0.0"}, wait=False)
    assert refused.process.wait(60) == 78
    assert "flask tokens create admin --scope admin" in refused.log()

    environment = {**QUIET, "HOST": "0.0.0.0", "ALLOW_UNAUTHENTICATED": "true"}
    running = service(workers=1, environment=environment | {"API_TOKENS_FILE": str(tmp_path / "missing")})
    assert running.get("/api/health").json() == {"success": True, "status": "ok"}
    assert running.get("/api/events").status == 401
    assert "no token is valid. This makes one: flask tokens create admin --scope admin" in running.log()
    assert "is open" not in running.log()
    made = flask("tokens", "create", "admin", "--scope", "admin")
    assert made.returncode == 0, made.stderr
    token = made.stdout.removesuffix("\n")
    processes.wait_until(lambda: running.get("/api/events", headers=bearer(token)).status == 200, "it is not valid")
    assert_closed(running, token)
    run_page(running, token)
    assert token not in running.log()


def run_page(running: Service, token: str) -> None:
    """Run the curl lines of docs/access.md, whose answers are JSON that says success."""
    token_id = token.split("_")[1]
    environment = {**os.environ, "TOKEN": token, "ADMIN": f"Authorization: Bearer {token}"}
    lines = re.findall(r"^    (curl .*)$", (PROJECT / "docs" / "access.md").read_text(), re.MULTILINE)
    assert len(lines) == 5
    for line in lines:
        address = line.replace("localhost:5050", f"localhost:{running.port}").replace("4fQ2mZ8k", token_id)
        done = subprocess.run(
            ["sh", "-c", f"{address} --silent --show-error --fail-with-body"],
            env=environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        assert json.loads(done.stdout)["success"], line


@pytest.mark.parametrize(
    ("name", "text"), [("API_TOKENS", "ci:admin:ev_4fQ2mZ8k_" + "S" * 38), ("API_TOKENS_FILE", "ci:everything:x")]
)
def test_a_setting_that_is_not_valid_stops_the_start_and_shows_no_secret(
    service: Callable[..., Service], tmp_path: Path, name: str, text: str
) -> None:
    file = tmp_path / "tokens"
    file.write_text(text)
    refused = service(workers=1, environment={**QUIET, name: str(file) if name.endswith("FILE") else text}, wait=False)
    assert refused.process.wait(60) == 78
    assert name in refused.log()
    assert "allowed: name:scope:sha256=<hex>" in refused.log()
    assert "S" * 38 not in refused.log()


def test_a_revoked_token_stays_revoked_over_restore_undo_and_recovery(
    service: Callable[..., Service], flask: Command, settings_environment: dict[str, str], tmp_path: Path
) -> None:
    settings = load(settings_environment)
    changes = TokenChanges(settings)
    admin = bearer(changes.create("admin", "admin", by="shell").text)
    leaked = changes.create("leaked", "read", by="shell")
    running = service(workers=1, environment=QUIET)
    running.post("/api/events", [{"type": "t", "id": "a"}], headers=admin)
    backup = running.post("/api/backup/create", headers=admin).json()["name"]
    assert running.get("/api/events", headers=bearer(leaked.text)).status == 200
    shutil.copytree(settings.storage_dir, tmp_path / "old", ignore=shutil.ignore_patterns("store.sock"))
    assert running.request("DELETE", f"/api/tokens/{leaked.token.id}", headers=admin).status == 200
    later = running.post("/api/tokens", {"name": "later", "scope": "read"}, headers=admin).json()["token"]

    def assert_revoked(when: str) -> None:
        answer = running.get("/api/events", headers=bearer(leaked.text))
        assert (answer.status, answer.json()["code"]) == (401, "token_wrong"), when
        assert running.get("/api/events", headers=bearer(later)).status == 200, when

    assert_revoked("at once")
    assert running.post("/api/backup/restore", {"backupName": backup}, headers=admin).status == 200
    assert_revoked("after a restore")
    assert running.post("/api/backup/undo", headers=admin).status == 200
    assert_revoked("after an undo")
    running.stop()

    shutil.rmtree(settings.storage_dir)
    recovered = flask("backup", "recover", "--yes")
    assert recovered.returncode == 0, recovered.stderr
    assert [token["name"] for token in changes.list_tokens()] == ["admin", "later"], "after a recovery"

    shutil.rmtree(settings.storage_dir)
    shutil.copytree(tmp_path / "old", settings.storage_dir)
    running = service(workers=1, environment=QUIET)
    assert_revoked("after an old copy of STORAGE_DIR was put back")
