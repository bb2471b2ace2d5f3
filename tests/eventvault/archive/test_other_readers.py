"""Readers of other languages extract an archive as `tar` does."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from eventvault.archive.manifest import Manifest
from tests import format_2
from tests.packages import TARGET, need, prepare

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

READERS = Path(__file__).parents[2] / "readers"
PACKAGES = TARGET / "readers"


def with_go() -> Sequence[str]:
    need("go")
    program = PACKAGES / "go-reader"
    prepare(["go", "build", "-o", str(program), "."], READERS / "go")
    return [str(program)]


def with_java() -> Sequence[str]:
    need("java", "javac", "mvn")
    classes = PACKAGES / "java"
    jars = f"-DoutputDirectory={classes}"
    prepare(["mvn", "-B", "-q", "-f", str(READERS / "java/pom.xml"), "dependency:copy-dependencies", jars], PACKAGES)
    path = f"{classes}:{classes}/*"
    prepare(["javac", "-cp", path, "-d", str(classes), str(READERS / "java/Extract.java")], PACKAGES)
    return ["java", "-XX:-UsePerfData", "-cp", path, "Extract"]


def with_node() -> Sequence[str]:
    need("node", "npm")
    folder = PACKAGES / "js"
    folder.mkdir(exist_ok=True)
    for name in ("package.json", "package-lock.json", "extract.mjs"):
        shutil.copy(READERS / "js" / name, folder)
    prepare(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], folder)
    return ["node", str(folder / "extract.mjs")]


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("reader", [with_go, with_java, with_node])
def test_a_reader_of_another_language_extracts_identical_bytes(
    reader: Callable[[], Sequence[str]], staging: Path, about: Manifest, tmp_path: Path
) -> None:
    """Some files have no member, one or several, and some begin at a multiple of 4,096."""
    noise = random.Random(3).randbytes(64 * 1024)
    for name, size in {"000011": 200_000, "000012": 4 * 2**20, "000013": 9 * 2**20 + 1, "000014": 1}.items():
        (staging / f"{name}.ldb").write_bytes((noise * (size // len(noise) + 1))[:size])
    archive, extracted = tmp_path / "a.tar.gz", tmp_path / "extracted"
    format_2.write_archive(archive, staging, about)
    extracted.mkdir()
    PACKAGES.mkdir(parents=True, exist_ok=True)

    done = subprocess.run([*reader(), archive], cwd=extracted, capture_output=True, text=True, timeout=120, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    found = content_of(extracted)
    assert sorted(name for name in found if "/" not in name) == ["INDEX.json", "manifest.json"]
    assert content_of(extracted / "event_registry_db") == content_of(staging)
