"""docs/restore-at-3-am.md: each command of the page is typed in the situation that it is for."""

from __future__ import annotations

import re
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import processes
from tests.command_line import FLASK
from tests.service import PROJECT, Service, service_environment
from tests.transcripts import session, without_what_varies

PAGE = "docs/restore-at-3-am.md"
QUICK = {"JOURNAL_INTERVAL": "100", "AUTO_BACKUP_ENABLED": "false"}
SHOWN = "backup_2026-11-29_173213.tar.gz"
_VARIES = [
    (re.compile(r"/\S+/(storage|backups)"), r"<folder>/\1"),
    (re.compile(r"backup_[\d_-]+(<time>)?\.tar\.gz"), "<backup>"),
    (re.compile(r"\b\d+ ms\b"), "<seconds>"),
    (re.compile(r"byte \d+"), "byte <number>"),
    (re.compile(r"\d+ segments?"), "<segments>"),
    (re.compile(r"all allowed; \d+ are"), "all allowed; <count> are"),
    (re.compile(r"back in .*"), "back in <parts>"),
    (re.compile(r"^No service runs: a store was started for this command\.\n", re.MULTILINE), ""),
    (re.compile(r'^\{"event": .*\n', re.MULTILINE), ""),  # the log of a store that a command started
]


def comparable(text: str) -> str:
    return without_what_varies(text, _VARIES)


class Night:
    """The machine on which the commands are typed."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self.environment = {**environment, **QUICK}
        self.folder = folder
        self.mark = secrets.token_hex(8)

    @property
    def archive(self) -> Path:
        (archive,) = Path(self.environment["BACKUP_DIR"]).glob("backup_*.tar.gz")
        return archive

    def type(self, heading: str, *, archive: str) -> None:
        """Type each command of the section and compare what it prints. archive: the one that the page shows."""
        for line, printed in session(PAGE, heading):
            found = self.run(line.replace(SHOWN, archive))
            if line == "flask doctor":  # the page leaves lines out
                _head, *shown = comparable(printed).splitlines()
                assert set(shown) <= set(comparable(found).splitlines()), found
            else:
                assert comparable(found.strip("\n")) == comparable(printed), line

    def run(self, line: str) -> str:
        done = subprocess.run(
            ["sh", "-c", f"{line.replace('flask', ' '.join(FLASK), 1)} 2>&1"],
            env=service_environment({**self.environment, "TZ": "UTC", "PYTHONPATH": str(PROJECT)}, 0, self.mark),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return done.stdout


@pytest.fixture
def night(
    service: Callable[..., Service], settings_environment: dict[str, str], tmp_path: Path
) -> Iterator[tuple[Night, Service]]:
    running = service(workers=1, environment=QUICK)
    running.post("/api/events", [{"type": "order.created", "id": str(number)} for number in (1, 2, 3)])
    assert running.post("/api/backup/create").status == 200
    running.post("/api/events", [{"type": "order.created", "id": "4"}, {"type": "order.deleted", "id": "5"}])
    processes.wait_until(
        lambda: running.get("/api/health").json()["journal"]["lastSequence"] == 5, "the events are not journaled"
    )
    typed = Night(settings_environment, tmp_path)
    yield typed, running
    processes.kill(processes.marked(typed.mark))  # the store of a command would end by itself some seconds later


def test_what_the_page_shows_while_the_service_runs_and_while_none_runs(night: tuple[Night, Service]) -> None:
    typed, running = night
    typed.type("The service runs", archive=typed.archive.name)
    running.stop()
    typed.type("No service", archive=typed.archive.name)


def test_what_the_page_shows_of_a_lost_storage_dir_and_of_another_machine(night: tuple[Night, Service]) -> None:
    typed, running = night
    running.stop()
    copy = typed.folder / "copy"
    shutil.copytree(typed.environment["BACKUP_DIR"], copy / "backups")
    shutil.rmtree(typed.environment["STORAGE_DIR"])
    typed.type("A lost STORAGE_DIR", archive=typed.archive.name)
    typed.environment |= {name: str(copy / name.partition("_")[0].lower()) for name in ("STORAGE_DIR", "RESTORE_DIR")}
    typed.environment["BACKUP_DIR"] = str(copy / "backups")
    typed.type("Another machine", archive=typed.archive.name)


def test_what_the_page_shows_of_a_damaged_archive_and_of_pruning(night: tuple[Night, Service]) -> None:
    typed, running = night
    damaged = typed.archive
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    typed.type("A damaged archive", archive=damaged.name)
    typed.type("A full disk", archive=damaged.name)
    assert running.get("/api/health").json()["store"]["events"] == 5


def test_every_section_of_the_page_with_commands_is_typed() -> None:
    text = (PROJECT / PAGE).read_text(encoding="utf-8")
    with_commands = {title for title in re.findall(r"^## (.*)$", text, re.MULTILINE) if list(session(PAGE, title))}
    assert with_commands == {
        "The service runs", "No service", "A lost STORAGE_DIR", "Another machine", "A damaged archive", "A full disk",
    }  # fmt: skip
