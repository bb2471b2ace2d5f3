"""`flask events …` as processes of their own: with a service, without one, interrupted, and with closed pipes."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import processes
from tests.end_to_end.test_command_line import QUICK, without_what_varies
from tests.service import PROJECT, Service, service_environment

PAGE = PROJECT / "docs" / "import.md"
EVENTVAULT = [sys.executable, "-m", "app.cli"]


def lines(first: int, count: int) -> bytes:
    return b"".join(
        b'{"type":"order.created","id":"o%d","data":"%s"}\n' % (number, b"x" * 100)
        for number in range(first, first + count)
    )


@pytest.fixture(scope="module")
def shared(
    module_service: Callable[..., Service], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Service, dict[str, str]]:
    """A service that the tests of this module share, and the environment of commands that use it."""
    running = module_service(workers=1, environment=QUICK)
    folders = {name: str(running.folder(name)) for name in ("STORAGE_DIR", "BACKUP_DIR", "RESTORE_DIR")}
    return running, folders


@contextmanager
def begun(environment: dict[str, str], *arguments: str, mark: str = "events") -> Iterator[subprocess.Popen[bytes]]:
    """A command in a process of its own, which is gone at the end."""
    with subprocess.Popen(
        [*EVENTVAULT, "events", *arguments],
        env=service_environment(environment, 0, mark),
        cwd=PROJECT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def run(
    environment: dict[str, str], *arguments: str, given: bytes = b"", mark: str = "events"
) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end. A store that it starts goes on, and writes its log to the standard error of it."""
    with tempfile.TemporaryFile() as messages:
        done = subprocess.run(
            [*EVENTVAULT, "events", *arguments],
            env=service_environment(environment, 0, mark),
            cwd=PROJECT,
            input=given,
            stdout=subprocess.PIPE,
            stderr=messages,
            timeout=120,
            check=False,
        )
        messages.seek(0)
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout, messages.read())


def transcript() -> Iterator[tuple[str, str]]:
    """Each command of the page with what it prints."""
    for part in PAGE.read_text().split("```")[1].split("\n$ ")[1:]:
        line, _, printed = part.partition("\n")
        yield line, printed.strip("\n")


def test_the_page_shows_what_the_commands_print(
    service: Callable[..., Service], settings_environment: dict[str, str], tmp_path: Path
) -> None:
    service(workers=1, environment=QUICK)
    for line, printed in transcript():
        if line.startswith("cat ") and not line.endswith("bad.ndjson"):
            (tmp_path / line.split()[1]).write_text(printed + "\n")
        done = subprocess.run(
            ["sh", "-c", f"{re.sub('^flask', ' '.join(EVENTVAULT), line)} 2>&1"],
            env={**service_environment({**settings_environment, "TZ": "UTC"}, 0, "page"), "PYTHONPATH": str(PROJECT)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert varied(done.stdout.strip("\n")) == varied(printed), line


def varied(text: str) -> str:
    text = re.sub(r"\d\d:\d\d:\d\d(?= +\d+  order)", "<time>", text)
    return without_what_varies(re.sub(r'"\d{4}-\d\d-\d\dT[\d:.]+Z"', '"<time>"', text))


def test_without_a_service_the_first_command_starts_a_store_that_the_next_ones_use(
    settings_environment: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "a.ndjson"
    file.write_bytes(lines(1, 3))
    mark = secrets.token_hex(8)
    try:
        imported = run(settings_environment, "import", str(file), "--json", mark=mark)
        assert imported.returncode == 0, imported.stderr
        assert b"No service runs: a store was started for this command.\n" in imported.stderr
        assert json.loads(imported.stdout)["new"] == 3
        # A store that no command is connected to ends after 3 s; on a busy machine the next command may come later.
        with begun(settings_environment, "tail", "--follow", "--lines", "1", mark=mark) as follower:
            assert follower.stdout is not None
            assert follower.stdout.readline()
            posted = run(settings_environment, "post", "later", "--id", "x", mark=mark)
            assert (posted.stdout, posted.stderr) == (b"#4 on disk\n", b"")
            assert json.loads(run(settings_environment, "get", "x", mark=mark).stdout)["type"] == "later"
            assert run(settings_environment, "count", mark=mark).stdout == b"4\n"
            assert len(run(settings_environment, "tail", "-n", "2", mark=mark).stdout.splitlines()) == 2
            assert len(run(settings_environment, "export", mark=mark).stdout.splitlines()) == 4
            assert b"only in now  1" in run(settings_environment, "diff", "#3", "now", "--summary", mark=mark).stdout
        assert list((Path(settings_environment["STORAGE_DIR"]) / "imports").glob("*.json"))
    finally:
        processes.kill(processes.marked(mark))


def test_with_a_service_commands_and_requests_see_the_same_events(
    shared: tuple[Service, dict[str, str]], tmp_path: Path
) -> None:
    running, environment = shared
    file = tmp_path / "a.ndjson"
    file.write_bytes(lines(1, 50))
    before = running.get("/api/events?limit=1").json()["lastSequence"]
    done = run(environment, "import", str(file), "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    assert running.get("/api/events?limit=1").json()["lastSequence"] == before + 50
    exported = tmp_path / "out.ndjson.gz"
    assert run(environment, "export", "-o", str(exported)).returncode == 0
    assert run(environment, "export").stdout == running.get("/api/events/export").body
    assert json.loads(run(environment, "get", "o7").stdout) == running.get("/api/events/o7").json()["event"]
    posted = json.loads(run(environment, "post", "a", "--json").stdout)
    assert posted["lastSequence"] == before + 51


def test_tail_follows_new_events_and_a_restore_and_ends_at_ctrl_c(
    service: Callable[..., Service], settings_environment: dict[str, str]
) -> None:
    running = service(workers=1, environment=QUICK)
    running.post("/api/events", [{"type": "a", "id": str(number)} for number in range(1, 4)])
    with begun(settings_environment, "tail", "-n", "1", "-f", "--type", "a*") as tail:
        assert tail.stdout is not None
        assert tail.stdout.readline().split()[1:3] == [b"3", b"a"]
        running.post("/api/events", {"type": "b", "id": "other"})
        running.post("/api/events", {"type": "a.later", "id": "4"})
        assert tail.stdout.readline().split()[1:3] == [b"5", b"a.later"]
        processes.wait_until(
            lambda: running.get("/api/health").json()["journal"]["lastSequence"] == 5, "nothing is journaled"
        )
        assert running.post("/api/backup/restore", {"sequence": 2}).status == 200
        assert tail.stdout.readline().decode() == "── went back to #2 ──\n"
        running.post("/api/events", {"type": "a.new", "id": "5"})
        assert tail.stdout.readline().split()[1:3] == [b"3", b"a.new"]
        tail.send_signal(signal.SIGINT)
        assert tail.wait(90) == 130


def test_tail_ends_when_nobody_reads_it_any_more(shared: tuple[Service, dict[str, str]]) -> None:
    running, environment = shared
    running.post("/api/events", {"type": "a"})
    with begun(environment, "tail", "-n", "1", "-f") as tail:
        assert tail.stdout is not None
        assert tail.stdout.readline()
        tail.stdout.close()
        assert tail.wait(90) == 1
        assert tail.stderr is not None
        assert tail.stderr.read() == b""


def test_an_export_into_a_pipe_that_is_closed_ends_without_a_word(shared: tuple[Service, dict[str, str]]) -> None:
    running, environment = shared
    running.post("/api/events", [{"type": "a", "data": "x" * 1000} for _ in range(1000)])
    with begun(environment, "export") as export:
        assert export.stdout is not None
        assert export.stdout.readline()
        export.stdout.close()
        assert export.wait(90) == 1
        assert export.stderr is not None
        assert export.stderr.read() == b""


def test_output_on_a_full_disk_is_an_error(shared: tuple[Service, dict[str, str]]) -> None:
    running, environment = shared
    running.post("/api/events", {"type": "a"})
    for command in (["export"], ["tail"], ["count"], ["diff", "#0", "now"]):
        with Path("/dev/full").open("wb") as full:
            done = subprocess.run(
                [*EVENTVAULT, "events", *command],
                env=service_environment(environment, 0, "events"),
                cwd=PROJECT,
                stdout=full,
                stderr=subprocess.PIPE,
                timeout=120,
                check=False,
            )
        assert done.returncode == 7, (command, done.stderr)
        assert b"No space left on device" in done.stderr


def test_ctrl_c_notes_what_is_on_disk_and_the_same_command_goes_on(
    shared: tuple[Service, dict[str, str]], tmp_path: Path
) -> None:
    running, environment = shared
    before = running.get("/api/events?limit=1").json()["lastSequence"]
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    content = lines(10_000, 20_000)
    arguments = ("import", str(fifo), "--name", "interrupted")
    with begun(environment, *arguments) as importing:
        with fifo.open("wb") as pipe:
            pipe.write(content[: len(content) // 2])
            pipe.flush()
            processes.wait_until(
                lambda: running.get("/api/events?limit=1").json()["lastSequence"] > before, "nothing is imported"
            )
            importing.send_signal(signal.SIGINT)
            assert importing.wait(90) == 130
        assert importing.stderr is not None
        said = importing.stderr.read().decode()
    assert re.search(r"Interrupted: [\d,]+ events of it are in. The same command goes on there.", said), said
    with begun(environment, *arguments, "--json") as importing:
        with fifo.open("wb") as pipe:
            pipe.write(content)
        printed, said_of_error = importing.communicate(timeout=60)
        assert importing.returncode == 0, said_of_error
    done = json.loads(printed)
    assert done["resumedAt"] is not None
    assert done["events"] == 20_000
    assert running.get("/api/events?limit=1").json()["lastSequence"] == before + 20_000


def test_an_import_reads_standard_input_and_says_nothing_but_the_result(
    shared: tuple[Service, dict[str, str]],
) -> None:
    _, environment = shared
    done = run(environment, "import", "-", given=lines(50_000, 10) + b"{\n")
    assert done.returncode == 8
    assert done.stdout.decode().startswith("10 events are in: 10 new, 0 there already. 1 line was rejected: ")
    assert done.stderr == b"importing\n"
