"""A small database folder, and archives of it in both formats."""

import random
import resource
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from eventvault.archive.manifest import Manifest
from eventvault.database.generation import Generation
from tests import format_1, format_2

GENERATION = Generation("0123456789abcdef", None, 0, "created", 1_700_000_000_000_000)
FILES = {
    "000003.log": b"",
    "000005.ldb": random.Random(1).randbytes(700),
    "000007.ldb": b"the same again and again " * 40,
    "CURRENT": b"MANIFEST-000004\n",
    "MANIFEST-000004": random.Random(2).randbytes(512),
}


@contextmanager
def _largest_file(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def largest_file() -> Callable[[int], AbstractContextManager[None]]:
    """The kernel refuses to let a file grow beyond a size, as it does on a full disk."""
    return _largest_file


@pytest.fixture(scope="session")
def about() -> Manifest:
    return Manifest(
        store_id="5107e1d",
        installation="1257a11",
        generation=GENERATION,
        generations=[GENERATION],
        first_sequence=1,
        last_sequence=2,
        first_time="2026-01-31T12:34:56.789012Z",
        last_time="2026-01-31T12:34:57.000000Z",
        events=2,
        kafka={"events": {"0": 17}},
        label="Before the move",
        name="backup_2026-01-31_123457_before-the-move.tar.gz",
        created="2026-01-31T12:34:57.123Z",
    )


@pytest.fixture(scope="session")
def database_files() -> dict[str, bytes]:
    return dict(FILES)


@pytest.fixture
def staging(tmp_path: Path) -> Path:
    folder = tmp_path / "staging"
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    return folder


WRITERS = {1: format_1.write_archive, 2: format_2.write_archive}


def archive_bytes(version: int, about: Manifest) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        staging = Path(folder) / "staging"
        staging.mkdir()
        for name, content in FILES.items():
            (staging / name).write_bytes(content)
        WRITERS[version](Path(folder) / "own.tar.gz", staging, about)
        return (Path(folder) / "own.tar.gz").read_bytes()


@pytest.fixture(scope="session", params=WRITERS, ids="format {}".format)
def own_bytes(request: pytest.FixtureRequest, about: Manifest) -> bytes:
    """An archive of ours of the small database, in either format."""
    return archive_bytes(request.param, about)


@pytest.fixture
def own(tmp_path: Path, own_bytes: bytes) -> Path:
    path = tmp_path / "own.tar.gz"
    path.write_bytes(own_bytes)
    return path
