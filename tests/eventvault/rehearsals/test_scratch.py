"""The scratch folder is gone afterwards, also when the process that used it was killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from eventvault.rehearsals.scratch import remove_abandoned, scratch_folder
from tests.service import PROJECT

HOLDER = """
import sys
from pathlib import Path
from eventvault.rehearsals.scratch import scratch_folder
with scratch_folder(Path(sys.argv[1])) as folder:
    (folder / "a large file").write_text("x")
    print(folder, flush=True)
    sys.stdin.read()
"""


def test_it_is_removed_whatever_happens(tmp_path: Path) -> None:
    def fail() -> None:
        with scratch_folder(tmp_path) as folder:
            (folder / "restored").mkdir()
            raise ValueError

    with pytest.raises(ValueError):
        fail()

    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_that_of_a_killed_process_is_removed_and_that_of_a_living_one_stays(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=PROJECT, text=True, **pipes) as holder:  # type: ignore[call-overload]
        folder = Path(holder.stdout.readline().strip())
        with scratch_folder(tmp_path):
            assert (folder / "a large file").exists()
        holder.kill()
        holder.wait(90)

    remove_abandoned(tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_and_a_missing_folder_say_so(tmp_path: Path) -> None:
    remove_abandoned(tmp_path / "missing")
    with pytest.raises(OSError), scratch_folder(tmp_path / "missing"):
        pass
