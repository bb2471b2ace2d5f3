"""The commands as scripts/install installs them: from any folder, without `--app`, building no application."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from app.cli.command_table import COMMANDS
from tests.app.test_command_tree import HEAVY
from tests.service import PROJECT, Service

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def install_line() -> list[str]:
    """What scripts/install runs behind `-m pip`."""
    script = (PROJECT / "scripts" / "install").read_text()
    found = re.search(r"install_commands\(\) \{\n +\S+ -m pip (.*?) --editable", script, re.DOTALL)
    assert found is not None
    return found[1].replace("\\\n", " ").split()


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    prefix = tmp_path_factory.mktemp("installed")
    pip = [
        sys.executable,
        "-m",
        "pip",
        *install_line(),
        "--ignore-installed",
        "--prefix",
        str(prefix),
        "--editable",
        str(PROJECT),
    ]
    done = subprocess.run(pip, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return prefix


@pytest.fixture
def run(prefix: Path, tmp_path: Path, settings_environment: dict[str, str]) -> Run:
    """Runs an installed program in a folder that has nothing to do with the project."""
    packages = sysconfig.get_path("purelib", vars={"base": str(prefix)})
    assert str(PROJECT) in "".join(path.read_text() for path in Path(packages).glob("*.pth"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    # Python reads no .pth in a folder of PYTHONPATH, so what the one above names is there itself.
    environment = {**settings_environment, "PATH": os.environ["PATH"], "PYTHONPATH": f"{packages}:{PROJECT}"}

    def run(program: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "flask"] if program == "flask" else [sys.executable, prefix / "bin" / program]
        return subprocess.run(
            [*words, *arguments],
            cwd=elsewhere,
            env={**environment, **more},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def test_both_names_reach_the_running_service_from_any_folder(run: Run, service: Callable[..., Service]) -> None:
    running = service(workers=1)
    name = running.post("/api/backup/create").json()["name"]
    for program in ("flask", "eventvault"):
        done = run(program, "backup", "list", "--json")
        assert (done.returncode, done.stderr) == (0, "")
        assert [backup["name"] for backup in json.loads(done.stdout)["backups"]] == [name]
        assert f"HINT: {program} backup list shows the names" in run(program, "backup", "show", "none.tar.gz").stderr


def test_flask_finds_the_commands_without_loading_the_application(run: Run) -> None:
    done = run("flask", "backup", "--help", PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "app" in loaded
    assert loaded & (HEAVY - {"flask", "werkzeug"}) == set()


def test_flask_has_every_command(run: Run) -> None:
    listed = run("flask", "completion", "--help", FLASK_APP="wsgi")
    assert listed.stdout.startswith("Usage: python -m flask completion [OPTIONS] {bash|zsh|fish}")
    shown = run("flask", "--app", "wsgi", "--help").stdout
    assert [name for name in COMMANDS if f"\n  {name} " not in shown] == []


def test_a_setting_that_is_not_allowed_is_said_in_both_forms(run: Run) -> None:
    for program in ("flask", "eventvault"):
        as_json = run(program, "backup", "list", "--json", PORT="none")
        assert (as_json.returncode, json.loads(as_json.stdout)["code"]) == (78, "invalid_settings")
        said = run(program, "backup", "create", PORT="none")
        assert (said.returncode, "PORT" in said.stderr, "Traceback" in said.stderr) == (78, True, False)
