"""`flask doctor` as a process: with a service, with a store that does not answer, without, and as another user."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from app.cli.doctor.checks import CHECKS
from eventvault import data_folders
from tests import processes
from tests.command_line import Command
from tests.service import PROJECT, Service, service_environment
from tests.stores import folders_beneath

QUICK = {"JOURNAL_INTERVAL": "100", "AUTO_BACKUP_ENABLED": "false"}
MARKED = "geheimnis"
SECRETS = {
    "NOTIFY_URLS": f"json://user:{MARKED}@127.0.0.1:9/{MARKED} mailto://me:{MARKED}@example.org",
    "PING_URL": f"https://user:{MARKED}@127.0.0.1:9/{MARKED}",
}


def checks(done: subprocess.CompletedProcess[str]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for check in json.loads(done.stdout)["checks"]:
        found.setdefault(check["name"], []).append(check)
    return found


def states(done: subprocess.CompletedProcess[str], name: str) -> list[str]:
    return [check["state"] for check in checks(done)[name]]


_VARIES = [
    (re.compile(r"^EventVault .*", re.MULTILINE), "<head>"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"), "<time>"),
    (re.compile(r"all allowed; \d+ are"), "all allowed; <count> are"),
    (re.compile(r"/\S+/storage"), "<folder>/storage"),
    (re.compile(r"writable, [\w., ]+$", re.MULTILINE), "writable, <file system>"),
    (re.compile(r"process \d+, since \d\d:\d\d"), "<process>"),
    (re.compile(r"\b[\d.]+ (bytes|kB|MB|GB|TB)\b"), "<size>"),
    (re.compile(r"\b[\d.]+ (s|min) from"), "<seconds> from"),
    (re.compile(r"on one disk( \(\S+\))?"), "on one disk"),
    (re.compile(r"127\.0\.0\.1:\d+"), "<address>"),
]


def without_what_varies(text: str) -> str:
    for pattern, name in _VARIES:
        text = pattern.sub(name, text)
    return text


def transcripts() -> list[str]:
    """What the page shows of `flask doctor`, one after the other."""
    blocks = (PROJECT / "docs" / "doctor.md").read_text().split("```")[1::2]
    return [block.partition("$ flask doctor\n")[2] for block in blocks if "$ flask doctor\n" in block]


def times_in(environment: dict[str, str]) -> dict[str, tuple[int, int]]:
    """The time and the size of every file and folder of an installation, except those a store writes on its own.

    The temporary file, with which such a file is replaced, has its name in the middle.
    """
    own = (data_folders.CLOCK, data_folders.HEADS)
    return {
        str(path): (path.lstat().st_mtime_ns, path.lstat().st_size)
        for name in ("STORAGE_DIR", "BACKUP_DIR", "RESTORE_DIR")
        for path in sorted(Path(environment[name]).rglob("*"))
        if not any(name in path.name for name in own)
    }


def post_marked(running: Service) -> None:
    event = {"type": "order.created", "id": "1", "subject": f"s-{MARKED}", "data": {"text": MARKED}}
    assert running.post("/api/events", event).status == 201
    processes.wait_until(
        lambda: running.get("/api/health").json()["journal"]["lastSequence"] == 1, "the event is not journaled"
    )


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_while_the_service_runs_its_store_is_asked_and_secrets_and_payloads_stay_there(
    service: Callable[..., Service], eventvault: Command, settings_environment: dict[str, str]
) -> None:
    running = service(workers=1, environment={**QUICK, **SECRETS})
    assert running.post("/api/backup/create", {"label": "a label"}).json()["success"]
    post_marked(running)  # behind the backup: else its segment of the journal is removed within ten seconds
    (store,) = running.stores()
    before = times_in(settings_environment)

    done = eventvault("doctor", "--json", **QUICK, **SECRETS)
    text = eventvault("doctor", **QUICK, **SECRETS)

    assert times_in(settings_environment) == before
    assert done.returncode == 0, done.stdout
    assert running.stores() == [store]
    found = json.loads(done.stdout)
    assert (found["success"], found["service"]["state"], found["service"]["store"]) == (True, "answers", "serving")
    assert found["sizes"]["events"] == 1
    assert {each["name"]: each["value"] for each in found["settings"]}["NOTIFY_URLS"] == "set"
    assert f"process {store}" in checks(done)["lock"][0]["found"]
    for output in (done, text):
        assert MARKED not in output.stdout + output.stderr
    assert "1 event, LevelDB's log is whole" in text.stdout
    assert text.returncode == 0


def test_a_store_that_does_not_answer_is_named_within_seconds(
    service: Callable[..., Service], eventvault: Command
) -> None:
    running = service(workers=1, environment=QUICK)
    (store,) = running.stores()
    with stopped(running.process.pid), stopped(running.workers()[0]), stopped(store):
        began = time.monotonic()
        done = eventvault("doctor", "--json", **QUICK)
        assert time.monotonic() - began < 60
        assert running.stores() == [store]
    assert done.returncode == 1
    assert states(done, "lock") == ["wrong"]
    assert checks(done)["lock"][0]["mend"] == f"let it go on: kill -CONT {store}"
    assert states(done, "database") == ["ok"]


def test_without_the_service_no_store_is_started_and_it_says_what_a_start_would_do(
    service: Callable[..., Service], eventvault: Command, settings_environment: dict[str, str]
) -> None:
    running = service(workers=1, environment=QUICK)
    post_marked(running)
    running.stop()
    before = times_in(settings_environment)
    done = eventvault("doctor", "--json", **QUICK)
    assert done.returncode == 0, done.stdout
    assert checks(done)["lock"][0]["found"] == "free: no service runs"
    assert checks(done)["start"][0]["found"] == "a start opens the database"
    assert checks(done)["database"][0]["found"] == "1 event, LevelDB's log is whole"
    assert times_in(settings_environment) == before

    shutil.rmtree(Path(settings_environment["STORAGE_DIR"]) / data_folders.DATABASE)
    lost = eventvault("doctor", **QUICK)
    assert lost.returncode == 1
    assert re.search(r"^ WRONG database +gone, backups/ has it up to ", lost.stdout, re.MULTILINE)
    assert "→ eventvault backup recover\n" in lost.stdout
    assert not (Path(settings_environment["STORAGE_DIR"]) / data_folders.DATABASE).exists()
    assert eventvault("backup", "recover", "--yes", **QUICK).returncode == 0


def test_how_the_last_store_died_is_shown_where_it_could_say_it(
    eventvault: Command, settings_environment: dict[str, str]
) -> None:
    storage = Path(settings_environment["STORAGE_DIR"])
    storage.mkdir()
    (storage / data_folders.LAST_WORDS).write_bytes(b"Fatal Python error: Bus error\n\nThread 1:\n" + bytes(4000))
    done = eventvault("doctor")
    assert "How the last store died:\n  Fatal Python error: Bus error\n" in done.stdout
    assert "\0" not in done.stdout


def test_a_setting_that_is_not_allowed_is_one_of_the_checks(eventvault: Command) -> None:
    done = eventvault("doctor", "--json", MAX_BACKUPS="ten", NOTIFY_URLS=f"nosuch:{MARKED}")
    assert done.returncode == 1
    assert states(done, "settings") == ["wrong", "wrong"]
    assert checks(done)["settings"][0]["found"].startswith("MAX_BACKUPS is 'ten'; allowed: ")
    assert MARKED not in done.stdout
    assert states(done, "start") == ["wrong"]


AS_NOBODY = """
import os, sys
import app.cli.doctor.command
from app.cli.root import root

os.setgroups([])
os.setgid(65534)
os.setuid(65534)
root().main(["doctor", *sys.argv[1:]], prog_name="eventvault")
"""


def test_the_page_shows_what_it_prints(
    service: Callable[..., Service], eventvault: Command, settings_environment: dict[str, str]
) -> None:
    in_service, lost = transcripts()
    environment = {"JOURNAL_INTERVAL": "100", "TZ": "UTC"}
    running = service(workers=1, environment=environment)
    running.post("/api/events", [{"type": "order.created", "id": str(number)} for number in range(1, 4)])
    processes.wait_until(
        lambda: running.get("/api/health").json()["journal"]["lastSequence"] == 3, "the events are not journaled"
    )
    assert running.post("/api/backup/create").json()["success"]
    printed = eventvault("doctor", **environment).stdout.replace("eventvault ", "flask ")
    assert without_what_varies(printed) == without_what_varies(in_service)
    running.stop()
    shutil.rmtree(settings_environment["STORAGE_DIR"])
    printed = eventvault("doctor", **environment).stdout.replace("eventvault ", "flask ")
    assert without_what_varies(printed) == without_what_varies(lost)


def test_the_page_names_each_check() -> None:
    page = (PROJECT / "docs" / "doctor.md").read_text()
    assert [name for name in CHECKS if f"\n| `{name}` | " not in page] == []


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_is_told_whose_installation_it_is() -> None:
    with TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        folders = folders_beneath(Path(folder))
        Path(folders["STORAGE_DIR"]).mkdir(mode=0o700)
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, "--json"], env=service_environment(folders, 0, "nobody"), cwd=PROJECT,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["code"]) == (4, "forbidden"), done.stderr
    assert "sudo -u root eventvault" in answer["hint"]
    assert "docker-compose exec app" in answer["hint"]
