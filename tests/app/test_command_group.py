"""What holds for each command: its output is whole or an error, and with `--json` a usage error is an object too."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from eventvault import exit_statuses
from tests.service import PROJECT

pytestmark = pytest.mark.slow

PROGRAM = """
import resource
import sys
import click
from app.cli.group import Group

group = Group("demo")

@group.command("show")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True)
def show(name, as_json):
    click.echo(name * 100_000)

@group.command("ask")
def ask():
    click.echo((sys.stdin.isatty(), sys.stdout.isatty(), sys.stderr.isatty()), err=True)

@group.command("fail")
@click.option("--json", "as_json", is_flag=True)
def fail(as_json):
    from eventvault.errors import Forbidden
    raise Forbidden("it is not allowed", hint="ask")

@group.command("stop")
def stop():
    raise KeyboardInterrupt

@group.command("copy")
def copy():
    sys.stdout.buffer.write(bytes(100_000))
    sys.stdout.flush()

resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))  # once all modules are loaded, and compiled into files
group()
"""


def demo(*arguments: str, output: int | None = subprocess.PIPE, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
        env={"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1", **more},
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["show", "x"], ["show", "x", "--json"], ["copy"]])
def test_an_output_that_is_not_whole_is_an_error(tmp_path: Path, arguments: list[str], unbuffered: str) -> None:
    with (tmp_path / "output").open("wb") as output:
        done = demo(*arguments, output=output.fileno(), PYTHONUNBUFFERED=unbuffered)
    assert done.returncode not in (0, 120)
    assert done.stderr.startswith("writing to standard output failed: ")
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.slow
def test_a_full_disk_beneath_the_output_is_no_space() -> None:
    with Path("/dev/full").open("wb") as output:
        done = demo("show", "x", output=output.fileno())
    assert done.returncode == exit_statuses.NO_SPACE
    assert done.stderr.startswith("writing to standard output failed: No space left on device\nHINT: ")


@pytest.mark.parametrize("closed", ["0<&-", ">&-", "2>&-", "0<&- >&- 2>&-", "2>/dev/full"])
def test_a_stream_that_is_closed_or_full_stops_no_command(closed: str) -> None:
    command = f'exec "$0" -c "$1" ask {closed}'
    environment = {"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        ["sh", "-c", command, sys.executable, PROGRAM],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        env=environment,
        timeout=60,
        check=False,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["show", "--json"], ["nothing", "--json"], ["show", "x", "--json", "--what"]])
def test_a_wrong_command_line_is_an_object_too(arguments: list[str]) -> None:
    done = demo(*arguments)
    assert done.returncode == 2
    answer = json.loads(done.stdout)
    assert (answer["success"], answer["code"], done.stderr) == (False, "invalid", "")
    assert answer["hint"].endswith(" --help shows what it takes")


@pytest.mark.slow
def test_an_error_that_no_command_expects_is_reported_all_the_same() -> None:
    done = demo("fail")
    assert (done.returncode, done.stderr) == (exit_statuses.CONFLICT, "it is not allowed\nHINT: ask\n")
    as_json = demo("fail", "--json")
    assert (as_json.returncode, json.loads(as_json.stdout)["code"]) == (exit_statuses.CONFLICT, "forbidden")


@pytest.mark.slow
def test_ctrl_c_is_130_wherever_it_comes() -> None:
    assert demo("stop").returncode == 130
