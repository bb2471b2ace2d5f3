"""`flask backup …` as processes of their own: with a service, without one, on a terminal, and with Ctrl-C."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import processes
from tests.command_line import EVENTVAULT, FLASK, Command
from tests.held_chores import HeldChores
from tests.service import PROJECT, Service, service_environment
from tests.transcripts import session, without_what_varies

PAGE = "docs/command-line.md"
QUICK = {"JOURNAL_INTERVAL": "100", "AUTO_BACKUP_ENABLED": "false"}


def post_orders(running: Service) -> None:
    running.post("/api/events", [{"type": "order.created", "id": str(number)} for number in range(1, 4)])


def test_the_page_shows_what_the_commands_print(
    service: Callable[..., Service], settings_environment: dict[str, str]
) -> None:
    running = service(workers=1, environment=QUICK)
    post_orders(running)
    processes.wait_until(
        lambda: running.get("/api/health").json()["journal"]["lastSequence"] == 3, "the events are not journaled"
    )
    for line, printed in session(PAGE):
        done = subprocess.run(
            ["sh", "-c", f"{line.replace('flask', ' '.join(FLASK), 1)} 2>&1"],
            env=service_environment({**settings_environment, "TZ": "UTC"}, 0, "transcript"),
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert without_what_varies(done.stdout.strip("\n")) == without_what_varies(printed), line
        assert done.returncode == 0, line


def test_without_a_service_it_starts_a_store_that_ends(flask: Command, settings_environment: dict[str, str]) -> None:
    created = flask("backup", "create", "--json")
    assert created.returncode == 0, created.stderr
    assert created.stderr == "No service runs: a store was started for this command.\n"
    name = json.loads(created.stdout)["name"]
    assert flask("backup", "list", "-q").stdout == f"{name}\n"
    restored = flask("backup", "restore", name, "--yes")
    assert restored.returncode == 0, restored.stderr
    assert f"Back at {name}: 0 events" in restored.stdout
    assert (Path(settings_environment["BACKUP_DIR"]) / name).exists()


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, process: subprocess.Popen[bytes], screen: int) -> None:
        self.process = process
        self.shown = ""
        self._screen = screen

    def type(self, text: str) -> None:
        os.write(self._screen, text.encode())

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + 60
        while text not in self.shown:
            assert time.monotonic() < deadline, self.shown
            self._read()

    def end(self) -> int:
        """Return the exit status, once everything that it shows was read."""
        deadline = time.monotonic() + 60
        while self._read():
            assert time.monotonic() < deadline, self.shown
        return self.process.wait(60)

    def _read(self) -> bool:
        if not select.select([self._screen], [], [], 1.0)[0]:
            return True
        try:
            piece = os.read(self._screen, 65536)
        except OSError:  # the other end is closed
            return False
        self.shown += piece.decode(errors="replace").replace("\r\n", "\n")
        return bool(piece)


@contextmanager
def on_terminal(environment: dict[str, str], *arguments: str, called: tuple[str, ...] = FLASK) -> Iterator[Terminal]:
    screen, terminal = pty.openpty()
    process = subprocess.Popen(
        [*called, *arguments],
        env=service_environment({**environment, "TERM": "xterm", "COLUMNS": "88"}, 0, "terminal"),
        cwd=PROJECT,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    try:
        yield Terminal(process, screen)
    finally:
        process.kill()
        process.wait(60)
        os.close(screen)


def test_on_a_terminal_it_asks_and_shows_a_bar(
    service: Callable[..., Service], settings_environment: dict[str, str]
) -> None:
    running = service(workers=1, environment=QUICK)
    post_orders(running)
    name = running.post("/api/backup/create").json()["name"]
    running.post("/api/events", {"type": "order.created", "id": "later"})
    with on_terminal(settings_environment, "backup", "restore", name) as terminal:
        terminal.wait_for("Set 1 event aside and go back? [y/N]")
        assert running.get("/api/health").json()["store"]["events"] == 4
        terminal.type("y\n")
        assert terminal.end() == 0, terminal.shown
    assert "Restoring" in terminal.shown
    assert f"Back at {name}: 3 events" in terminal.shown
    processes.wait_until(lambda: running.get("/api/health").json()["store"]["events"] == 3, "health shows 4 events")


def test_a_reader_that_has_seen_enough_ends_a_command_without_a_word(
    service: Callable[..., Service], settings_environment: dict[str, str]
) -> None:
    running = service(workers=1, environment=QUICK)
    running.post("/api/backup/create")
    called = " ".join(EVENTVAULT)
    done = subprocess.run(
        ["sh", "-c", f"{called} backup list | true; {called} operations --json | true; {called} --help | head -c 1"],
        env=service_environment(settings_environment, 0, "pipe"),
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("U", "")


def test_ctrl_c_cancels_the_operation(
    service: Callable[..., Service], settings_environment: dict[str, str], tmp_path: Path
) -> None:
    chores = HeldChores(tmp_path)
    running = service(workers=1, environment={**QUICK, **chores.environment}, command=chores.command)
    post_orders(running)
    chores.hold("write_archive")
    with on_terminal(settings_environment, "backup", "create") as terminal:
        chores.wait_for_one(running)
        terminal.wait_for("Backing up")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.end() == 130, terminal.shown
    assert "Cancelled; nothing was changed." in terminal.shown
    assert running.get("/api/backup/list").json()["backups"] == []
    chores.go_on(running)
    assert running.post("/api/backup/create").status == 200
