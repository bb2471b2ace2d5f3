"""Commands with `--url` as processes of their own, against a service with tokens: the page, kills, and Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import processes
from tests.command_line import EVENTVAULT
from tests.end_to_end.test_command_line import QUICK, on_terminal, post_orders, without_what_varies
from tests.held_chores import HeldChores
from tests.service import PROJECT, Service, service_environment

PAGE = PROJECT / "docs" / "remote.md"


@dataclass
class Laptop:
    """Another machine, as far as a command can tell: it has nothing but the address and a token."""

    vault: Service
    environment: Mapping[str, str]

    def run(self, line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-c", line.replace("eventvault", " ".join(EVENTVAULT), 1)],
            env=service_environment({**self.environment, "TZ": "UTC"}, 0, "laptop"),
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


def laptop_of(vault: Service, folder: Path) -> Laptop:
    post_orders(vault)
    processes.wait_until(
        lambda: vault.get("/api/health").json()["journal"]["lastSequence"] == 3, "the events are not journaled"
    )
    token = folder / "token"
    token.write_text(vault.post("/api/tokens", {"name": "admin", "scope": "admin"}).json()["token"])
    nowhere = {name: str(token / name) for name in ("STORAGE_DIR", "BACKUP_DIR", "RESTORE_DIR")}
    return Laptop(vault, {**nowhere, "EVENTVAULT_URL": vault.base, "EVENTVAULT_TOKEN_FILE": str(token)})


@pytest.fixture(scope="module")
def chores(tmp_path_factory: pytest.TempPathFactory) -> HeldChores:
    """Those of the service of `laptop`."""
    return HeldChores(tmp_path_factory.mktemp("chores"))


@pytest.fixture(scope="module")
def laptop(
    module_service: Callable[..., Service], tmp_path_factory: pytest.TempPathFactory, chores: HeldChores
) -> Laptop:
    running = module_service(environment={**QUICK, **chores.environment}, command=chores.command)
    return laptop_of(running, tmp_path_factory.mktemp("laptop"))


def transcript() -> Iterator[tuple[str, str]]:
    for part in PAGE.read_text().split("```")[1].split("\n$ ")[1:]:
        line, _, printed = part.partition("\n")
        yield line, printed.strip("\n")


def test_the_page_shows_what_the_commands_print(service: Callable[..., Service], tmp_path: Path) -> None:
    laptop = laptop_of(service(workers=1, environment=QUICK), tmp_path)
    for line, printed in transcript():
        if line.startswith("export "):
            continue
        done = laptop.run(f"{line.replace('http://127.0.0.1:5050', laptop.vault.base)} 2>&1")
        assert without_what_varies(done.stdout.strip("\n")) == without_what_varies(printed), line


def test_a_command_goes_on_while_workers_are_killed(laptop: Laptop, chores: HeldChores) -> None:
    chores.hold("write_archive")
    command = subprocess.Popen(
        [*EVENTVAULT, "backup", "create", "over kills", "--json"],
        env=service_environment(laptop.environment, 0, "laptop"),
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        text=True,
    )
    chores.wait_for_one(laptop.vault)
    workers = laptop.vault.workers()
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    processes.wait_until(
        lambda: len(set(laptop.vault.workers()) - set(workers)) == len(workers), "the workers are not replaced"
    )
    chores.go_on(laptop.vault)
    output, _ = command.communicate(timeout=100)
    assert command.returncode == 0, output
    made = json.loads(output)["name"]
    labels = [each["name"] for each in json.loads(laptop.run("eventvault backup list --json").stdout)["backups"]]
    assert labels.count(made) == 1
    assert sum("over-kills" in name for name in labels) == 1


def test_ctrl_c_cancels_in_the_service(laptop: Laptop, chores: HeldChores) -> None:
    before = laptop.run("eventvault backup list -q").stdout
    chores.hold("write_archive")
    with on_terminal(dict(laptop.environment), "backup", "create", "never", called=EVENTVAULT) as terminal:
        chores.wait_for_one(laptop.vault)
        terminal.wait_for("Backing up")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.end() == 130, terminal.shown
    chores.go_on(laptop.vault)
    assert "Cancelled; nothing was changed." in terminal.shown
    assert laptop.run("eventvault backup list -q").stdout == before
