"""Runs the examples of a page of the documentation against a real service, and compares the answers that it shows.

In a page, a fenced `sh` block is run by bash, all of them in one shell, in order, in an empty folder; a fenced `json`
block after one is what its last line answers (several objects, one a line: NDJSON). There `"…"` stands for anything; an
answer may have more members than are shown.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest

PROJECT = Path(__file__).resolve().parent.parent
_BLOCK = re.compile(r"^```(sh|json)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_BEGINNING = re.compile(r"^    (.*\bmake run\b.*)$", re.MULTILINE)
_MARK = "--- the end of an example ---"


class Example(NamedTuple):
    """shown: the objects of the json block, empty where there is none."""

    command: str
    shown: list[Any]


def examples(page: str) -> list[Example]:
    """page: its path in the project."""
    found: list[Example] = []
    for kind, text in _BLOCK.findall((PROJECT / page).read_text()):
        if kind == "sh":
            found.append(Example(text, []))
        else:
            found[-1] = Example(found[-1].command, _objects(text))
    return found


def own_registry(page: str, temporary: Path) -> dict[str, str]:
    """The settings of the registry that the page begins with, before its first example; empty where it names none.

    They are what its `make run` is given; its folder is made in `temporary`.
    """
    found = _BEGINNING.search((PROJECT / page).read_text().partition("```sh")[0])
    if found is None:
        return {}
    script = f"make() {{ printf '%s\\n' \"$@\"; }}\n{found[1]}"
    environment = {**os.environ, "TMPDIR": str(temporary)}
    ran = subprocess.run(["bash", "-ec", script], env=environment, capture_output=True, text=True, check=True)
    target, *settings = ran.stdout.splitlines()
    assert target == "run"
    return dict(each.split("=", 1) for each in settings)


def run_page(page: str, port: int, *, tls: int = 0, **environment: str) -> None:
    """Run every example of the page. Raises AssertionError for one that fails or answers otherwise than is shown.

    port: what localhost:5050 stands for. tls: the same for localhost:5443. environment: further variables.
    """
    if shutil.which("jq") is None:
        pytest.skip("there is no jq, which the page uses")
    there = examples(page)
    assert there
    for example, answer in zip(there, _answers(there, port, tls, environment), strict=True):
        compare(example.shown, answer, example.command)


def _answers(there: list[Example], port: int, tls: int, environment: dict[str, str]) -> list[str]:
    """What the last line of each example printed."""
    script = [
        "set -euo pipefail",
        'curl() { command curl --fail-with-body --show-error --max-time 60 "$@"; }',
        f'flask() {{ PYTHONPATH={shlex.quote(str(PROJECT))} {shlex.quote(sys.executable)} -m app.cli "$@"; }}',
    ]
    for example in there:
        *before, last = example.command.replace("\\\n", " ").strip().splitlines()
        script += [*(f"{line}" if "=" in line.split(" ")[0] else f"{line} > /dev/null" for line in before), last]
        script.append(f"printf '\\n%s\\n' '{_MARK}'")
    text = (
        "\n".join(script).replace("localhost:5050", f"localhost:{port}").replace("localhost:5443", f"localhost:{tls}")
    )
    with tempfile.TemporaryDirectory() as folder:
        ran = subprocess.run(
            ["bash", "-c", text], env={**os.environ, **environment}, cwd=folder,
            capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
    assert ran.returncode == 0, f"{text}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout.split(_MARK)[:-1]


def compare(shown: list[Any], answer: str, command: str) -> None:
    if shown:
        found = [json.loads(line) for line in answer.splitlines() if line.strip()]
        assert _shape(shown, found) == shown, f"{command}\nanswers {answer}"


def _shape(shown: Any, found: Any) -> Any:
    """`found` as far as it is shown."""
    if shown == "…":
        return shown
    if isinstance(shown, dict) and isinstance(found, dict):
        return {name: _shape(value, found.get(name, "missing")) for name, value in shown.items()}
    if isinstance(shown, list) and isinstance(found, list) and len(shown) == len(found):
        return [_shape(one, other) for one, other in zip(shown, found, strict=True)]
    return found


def _objects(text: str) -> list[Any]:
    decoder, objects, position = json.JSONDecoder(), [], 0
    while text[position:].strip():
        position += len(text[position:]) - len(text[position:].lstrip())
        value, position = decoder.raw_decode(text, position)
        objects.append(value)
    return objects
