"""The commands of "Check an archive by hand" in docs/format.md check an archive, and find damage."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from functools import partial
from pathlib import Path

import pytest

from eventvault.archive import layout, reader
from eventvault.archive.manifest import Manifest
from eventvault.archive.seal import seal_root
from eventvault.archive.source import open_archive
from tests import format_2

PROJECT = Path(__file__).resolve().parents[3]


def commands() -> list[str]:
    """The blocks of commands of the section, but for the last one, which is about format 1."""
    section = (PROJECT / "docs/format.md").read_text().split("### Check an archive by hand\n")[1].split("\n## ")[0]
    blocks = re.findall(r"(?:^    .*\n)+", section, re.MULTILINE)
    return [re.sub("^    ", "", block, flags=re.MULTILINE) for block in blocks[:-1]]


@pytest.fixture
def archive(tmp_path: Path, staging: Path, about: Manifest) -> Path:
    for program in ("b3sum", "jq", "openssl"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    (staging / "000020.ldb").write_bytes(random.Random(6).randbytes(5 * 2**20))
    key = bytes(range(32))
    format_2.write_archive(tmp_path / "a.tar.gz", staging, about, seal=partial(seal_root, key))
    (tmp_path / ".installation.key").write_text(f'{{"key": "{key.hex()}"}}')
    return tmp_path / "a.tar.gz"


def run(archive: Path, folder: Path, blocks: list[str]) -> subprocess.CompletedProcess[str]:
    folder.mkdir()
    script = "set -e\n" + "\n".join(blocks).replace("/path/to/backup_2026-01-31_123457.tar.gz", str(archive))
    return subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_good_archive_passes_and_gives_one_file(archive: Path, tmp_path: Path) -> None:
    done = run(archive, tmp_path / "by-hand", commands())
    assert (done.returncode, done.stdout, done.stderr) == (0, "MANIFEST-000004\n", "")
    assert len(commands()) == 5


@pytest.mark.slow
@pytest.mark.parametrize("what", ["padding", "root", "seal", "end"])
def test_damage_that_gzip_and_tar_do_not_see_is_found(what: str, archive: Path, tmp_path: Path) -> None:
    content = bytearray(archive.read_bytes())
    with open_archive(archive) as opened:
        table = next(file for file in reader.peek_files(opened)[1] if file.name == "000020.ldb")
    end = len(content) - layout.CLOSING_SIZE - layout.SEAL_SIZE
    place = {
        "padding": table.offset - 800,
        "root": -20,
        "seal": -111,
        "end": end - len(layout.member(layout.END_BLOCKS)) + 9,
    }[what]
    content[place] ^= 1
    archive.write_bytes(content)

    assert run(archive, tmp_path / "first", commands()[:1]).returncode == 0
    assert run(archive, tmp_path / "all", commands()).returncode != 0


def test_the_documentation_gives_the_sizes_that_the_code_has() -> None:
    text = (PROJECT / "docs/format.md").read_text()
    ends = layout.CLOSING_SIZE + layout.SEAL_SIZE
    for what in (f"{layout.CLOSING_SIZE} bytes", f"{layout.SEAL_SIZE} bytes", f"({ends} bytes)"):
        assert what in text
    for number in (layout.CHUNK, layout.ALIGNMENT, layout.ALIGNED_FROM):
        assert f"{number:,}" in text
