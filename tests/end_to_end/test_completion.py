"""Completion in a real bash, zsh and fish: commands, options, and the names of backups as they must be typed."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from tests.service import PROJECT

ARCHIVE = "backup_2026-11-28_204914.tar.gz"
HOSTILE = "evil $(touch ran), *.tar.gz"
"""It sorts behind all others, and a shell that does not quote it runs what is in it."""
SHELLS = {
    "bash": (["--norc", "--noprofile", "-i"], "source <(eventvault completion bash)"),
    "zsh": (["-f", "-i"], "autoload -U compinit; compinit -D; source <(eventvault completion zsh)"),
    "fish": (["--no-config", "-i"], "eventvault completion fish | source"),
}
PROGRAM = f"""#!/bin/sh
# Without a shell that asks, it says what it was given.
[ -n "$_EVENTVAULT_COMPLETE" ] || [ "$1" = completion ] || {{ printf '%s\\n' "$@" > said; exit; }}
exec {sys.executable} -m app.cli "$@"
"""
_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?>=<]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()][A-Z0-9]|[=>78])")

pytestmark = pytest.mark.skipif(
    not all(shutil.which(shell) for shell in SHELLS), reason="bash, zsh and fish are not all installed"
)


class Shell:
    """A shell on a terminal, in which `eventvault` is the command line of this checkout."""

    def __init__(self, name: str, folder: Path, environment: dict[str, str]) -> None:
        options, source = SHELLS[name]
        self._process = pexpect.spawn(
            name, options, cwd=str(folder), env=environment, encoding="utf-8", timeout=60, dimensions=(40, 200)
        )
        self._marks = 0
        self.run(source)

    def run(self, line: str) -> None:
        """Run a line and wait until it has ended."""
        self._marks += 1
        self._process.send(f"{line}; echo en''d-{self._marks}\r")
        self._process.expect(f"end-{self._marks}")

    def complete(self, line: str, expected: str) -> None:
        """Type a line with a Tab at its end, and wait until the shell has completed it to what is expected."""
        self._process.send(line + "\t")
        seen = ""
        while expected not in seen:
            self._process.expect(r".+")
            seen += str(self._process.after)
            seen = _ESCAPES.sub("", seen)
        self._process.sendcontrol("u")

    def complete_and_run(self, line: str) -> None:
        """Complete a line, and run what it became."""
        self._process.send(line + "\t")
        self._process.expect("tar.gz")
        self._marks += 1
        self._process.send(f"; echo en''d-{self._marks}\r")
        self._process.expect(f"end-{self._marks}")

    def close(self) -> None:
        self._process.close(force=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "somewhere"
    folder.mkdir()
    return folder


@pytest.fixture(params=SHELLS)
def shell(
    request: pytest.FixtureRequest, tmp_path: Path, folder: Path, settings_environment: dict[str, str]
) -> Iterator[Shell]:
    backups = Path(settings_environment["BACKUP_DIR"])
    backups.mkdir(parents=True)
    for name in (ARCHIVE, HOSTILE, "notes.txt", ".hidden.tar.gz"):
        (backups / name).touch()
    summary = {"events": 1234, "label": "a: b\tc"}
    (backups / ".catalogue.json").write_text(json.dumps({"archives": {ARCHIVE: {"summary": summary}}}))
    programs = tmp_path / "bin"
    programs.mkdir()
    program = programs / "eventvault"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    environment = {
        **settings_environment,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(PROJECT),
        "HOME": str(tmp_path),
        "TERM": "xterm",
        "LANG": "C.UTF-8",
    }
    shell = Shell(request.param, folder, environment)
    yield shell
    shell.close()


def test_a_shell_completes_commands_options_and_names(
    shell: Shell, folder: Path, settings_environment: dict[str, str]
) -> None:
    shell.complete("eventvault ba", "eventvault backup ")
    shell.complete("eventvault backup tim", "eventvault backup timeline ")
    shell.complete("eventvault backup list --dam", "eventvault backup list --damaged ")
    shell.complete("eventvault backup show b", f"eventvault backup show {ARCHIVE} ")
    shell.complete("eventvault completion fi", "eventvault completion fish ")
    assert not Path(settings_environment["STORAGE_DIR"]).exists(), "a store was started"


def test_a_name_is_completed_as_it_must_be_typed(shell: Shell, folder: Path) -> None:
    """The command gets the name as it is, and what is in the name does not run."""
    shell.complete_and_run("eventvault backup show ev")
    assert (folder / "said").read_text().splitlines() == ["backup", "show", HOSTILE]
    assert [path.name for path in folder.iterdir()] == ["said"]
