"""A method is added to a port end to end by edits of three source files: the port, its owner and its double."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).resolve().parents[3]

EDITS = {
    "eventvault/store/ports/event_log.py": """
    def sizes_of_type(self, type_name: str, *, at_most: int = 10) -> list[tuple[int, int]]:
        \"\"\"The number and the size in bytes of the newest events of a type.\"\"\"
""",
    "eventvault/store/owners/event_log.py": """
    def sizes_of_type(self, type_name: str, *, at_most: int = 10) -> list[tuple[int, int]]:
        with self._bus.using() as registry:
            page = self._past.scan(registry, ScanQuery(type=type_name, limit=1000))
        return [(number, len(value)) for number, value in enumerate(page.events, 1)][-at_most:]
""",
    "eventvault/store/memory/event_log.py": """
    def sizes_of_type(self, type_name: str, *, at_most: int = 10) -> list[tuple[int, int]]:
        page = self.scan(ScanQuery(type=type_name, limit=1000))
        return [(number, len(value)) for number, value in enumerate(page.events, 1)][-at_most:]
""",
}
"""File → what is put at the end of its class of the port."""

ASK = """
import json, pathlib, sys
from eventvault import clock
from eventvault.backup_manager import BackupManager
from eventvault.events import event
from eventvault.settings import load
from eventvault.store.memory.store import MemoryStore

settings = load()
client = BackupManager(settings, [sys.executable, "-m", "app.store"], mode="command").initialize()
folder = pathlib.Path(settings.storage_dir, "double")
folder.mkdir()
try:
    answers = []
    for store in (client, MemoryStore(folder)):
        store.append([event.draft({"type": "t", "id": name}, clock.now()) for name in "abc"])
        sizes = store.sizes_of_type
        answers.append([sizes("t"), sizes("t", at_most=1), sizes(type_name="u")])
    print(json.dumps(answers))
finally:
    client.spawner.end("")
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the sources with the edits."""
    copy = tmp_path / "project"
    for folder in ("eventvault", "app"):
        shutil.copytree(PROJECT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name, method in EDITS.items():
        path = copy / name
        lines = path.read_text().splitlines(keepends=True)
        begin = next(number for number, line in enumerate(lines) if line.startswith("class ") and "EventLog" in line)
        after = (number for number in range(begin + 1, len(lines)) if not lines[number].startswith((" ", "\n")))
        lines.insert(next(after, len(lines)), method)
        path.write_text("".join(lines))
    return copy


def test_a_new_method_of_a_port_takes_edits_in_three_source_files(
    project: Path, settings_environment: dict[str, str]
) -> None:
    answer = subprocess.run(
        [sys.executable, "-c", ASK],
        cwd=project,
        env={**os.environ, **settings_environment, "PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert answer.returncode == 0, answer.stderr
    remote, double = json.loads(answer.stdout)
    assert len(EDITS) == 3
    assert [[number for number, _ in answer] for answer in remote] == [[1, 2, 3], [3], []]
    assert remote == double
