import gzip
import os
import random
import shutil
import subprocess
import sys
import tarfile
import textwrap
from pathlib import Path

import msgspec
import pytest
from blake3 import blake3

from benchmarks import events
from eventvault.archive import layout, manifest, parallel, reader
from eventvault.archive.format2 import index
from eventvault.archive.manifest import FileRecord
from eventvault.archive.run_check import check_content
from eventvault.errors import ArchiveDamaged, ArchiveUnsafe, DatabaseError, NoSpace, TooLarge
from tests import format_2

PROJECT = Path(__file__).resolve().parents[3]


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


@pytest.fixture
def large(staging: Path) -> Path:
    """Files around the sizes at which members are split."""
    return with_large_files(staging)


def with_large_files(staging: Path) -> Path:
    noise = random.Random(3).randbytes(64 * 1024)
    for name, size in {"000011": 4 * 2**20, "000012": 4 * 2**20 - 100, "000013": 9 * 2**20 + 1, "000014": 1}.items():
        (staging / f"{name}.ldb").write_bytes((noise * (size // len(noise) + 1))[:size])
    return staging


@pytest.fixture(scope="module", params=["fast", "small", "store"])
def large_archive(request, database_files: dict[str, bytes], about, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive; what it was made of lies beside it, in `large`."""
    path = tmp_path_factory.mktemp(request.param) / "large.tar.gz"
    large = path.with_name("large")
    large.mkdir()
    for name, content in database_files.items():
        (large / name).write_bytes(content)
    (with_large_files(large) / "000015.ldb").write_bytes(random.Random(4).randbytes(5 * 2**20))
    format_2.write_archive(path, large, msgspec.structs.replace(about, compression=request.param))
    return path


EXTRACTORS = {
    "tar": ["tar", "xzf"],
    "bsdtar": ["bsdtar", "xf"],
    "busybox": ["busybox", "tar", "xzf"],
    "7z": ["sh", "-c", '7z x -so -tgzip "$0" | 7z x -si -ttar -bso0 -bsp0'],
    "tarfile": [sys.executable, "-m", "tarfile", "-e"],
}


@pytest.mark.slow
@pytest.mark.parametrize("program", EXTRACTORS)
def test_any_tar_extracts_identical_bytes(program, large_archive, tmp_path):
    command = EXTRACTORS[program]
    if shutil.which(program if program != "tarfile" else command[0]) is None:
        pytest.skip(f"{program} is not installed")
    folder = tmp_path / "extracted"
    folder.mkdir()
    done = subprocess.run([*command, large_archive], cwd=folder, capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")
    assert content_of(folder / "event_registry_db") == content_of(large_archive.with_name("large"))
    assert sorted(path.name for path in folder.iterdir()) == ["INDEX.json", "event_registry_db", "manifest.json"]


@pytest.mark.slow
@pytest.mark.parametrize("program", ["gzip", "pigz"])
def test_any_gzip_finds_it_whole(program, large_archive):
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    done = subprocess.run([program, "-t", large_archive], capture_output=True, check=True)
    assert done.stderr == b""


@pytest.mark.slow
def test_the_tar_metadata_say_nothing_of_the_machine(large_archive, about):
    with tarfile.open(large_archive) as archive:
        entries = archive.getmembers()
    assert {(entry.uid, entry.gid, entry.uname, entry.gname, entry.mtime) for entry in entries} == {
        (0, 0, "", "", about.modified)
    }
    assert {entry.mode for entry in entries} == {0o755, 0o644}
    names = [entry.name for entry in entries]
    assert names[0] == "event_registry_db"
    assert names[1:-2] == sorted(names[1:-2])
    assert names[-2:] == ["manifest.json", "INDEX.json"]


@pytest.mark.slow
def test_the_same_folder_gives_the_same_bytes(staging, about, tmp_path):
    format_2.write_archive(tmp_path / "own.tar.gz", staging, about)
    os.utime(staging / "CURRENT", (1, 1))
    written = format_2.write_archive(tmp_path / "again.tar.gz", staging, about)
    content = (tmp_path / "again.tar.gz").read_bytes()
    assert content == (tmp_path / "own.tar.gz").read_bytes()
    closing = layout.parse_closing(content[-layout.CLOSING_SIZE :])
    end = content[closing.index_offset : -layout.CLOSING_SIZE - layout.SEAL_SIZE]
    assert closing.digest == blake3(end).digest()
    assert (written.size, written.digest) == (len(content), f"blake3:{closing.digest.hex()}")


@pytest.mark.slow
def test_the_number_of_threads_makes_no_difference(large, about, tmp_path, monkeypatch):
    contents = set()
    for threads in (1, 2, 4):
        monkeypatch.setattr(parallel, "thread_count", lambda threads=threads: threads)
        format_2.write_archive(tmp_path / f"{threads}.tar.gz", large, about)
        contents.add((tmp_path / f"{threads}.tar.gz").read_bytes())
    assert len(contents) == 1


@pytest.mark.slow
def test_small_is_no_larger_than_tar_czf_and_fast_not_much_larger(about, tmp_path):
    folder = tmp_path / "db" / "event_registry_db"
    events.fill(folder, 8 * 2**20)
    subprocess.run(["tar", "czf", tmp_path / "plain.tar.gz", "-C", folder.parent, folder.name], check=True)
    sizes = {}
    for compression in ("small", "fast", "store"):
        named = msgspec.structs.replace(about, compression=compression)
        sizes[compression] = format_2.write_archive(tmp_path / f"{compression}.tar.gz", folder, named).size
    plain = (tmp_path / "plain.tar.gz").stat().st_size
    assert sizes["small"] <= plain
    assert sizes["small"] < sizes["fast"] < plain * 1.3
    assert sizes["store"] >= events.folder_size(folder)


@pytest.mark.slow
def test_what_the_disk_changed_is_found_before_the_archive_has_its_name(large, about, tmp_path, monkeypatch):
    """The read-back is from the file, not from what is in memory."""
    real = os.fsync

    def spoil(handle: int) -> None:
        real(handle)
        if os.fstat(handle).st_size > 2**20:
            os.pwrite(handle, b"spoiled", 600_000)

    monkeypatch.setattr(os, "fsync", spoil)
    with pytest.raises(ArchiveDamaged, match="reading back"):
        format_2.write_archive(tmp_path / "a.tar.gz", large, about)
    assert [path.name for path in tmp_path.iterdir()] == ["staging"]


@pytest.mark.slow
def test_the_manifest_names_each_file_with_its_size_and_checksum(staging, about, tmp_path, database_files):
    written = format_2.write_archive(tmp_path / "a.tar.gz", staging, about)
    assert {file.name: (file.size, file.blake3) for file in written.manifest.files} == {
        name: (len(content), blake3(content).hexdigest()) for name, content in database_files.items()
    }
    assert msgspec.structs.replace(written.manifest, files=[]) == about


def test_an_archive_that_is_there_is_never_overwritten(staging, about, tmp_path):
    path = tmp_path / "taken.tar.gz"
    path.write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        format_2.write_archive(path, staging, about)
    assert path.read_bytes() == b"mine"
    assert hidden(tmp_path) == []


@pytest.mark.slow
def test_a_name_that_is_taken_meanwhile_is_not_overwritten_either(staging, about, tmp_path):
    path = tmp_path / "taken.tar.gz"
    with pytest.raises(FileExistsError):
        format_2.write_archive(path, staging, about, progress=lambda done, total: path.write_bytes(b"mine"))
    assert path.read_bytes() == b"mine"
    assert hidden(tmp_path) == []


@pytest.mark.slow
def test_a_full_disk_is_said_and_nothing_is_left(largest_file, large, about, tmp_path):
    with largest_file(100_000), pytest.raises(NoSpace, match=r"full\.tar\.gz"):
        format_2.write_archive(tmp_path / "full.tar.gz", large, about)
    assert [path.name for path in tmp_path.iterdir()] == ["staging"]


def test_a_manifest_that_would_not_be_read_again_is_not_written(staging, about, tmp_path):
    with pytest.raises(TooLarge, match="label"):
        format_2.write_archive(tmp_path / "a.tar.gz", staging, msgspec.structs.replace(about, label="x" * 5 * 2**20))
    assert not (tmp_path / "a.tar.gz").exists()


@pytest.mark.slow
def test_progress_ends_at_the_size_of_the_folder(large, about, tmp_path):
    seen = []
    format_2.write_archive(tmp_path / "a.tar.gz", large, about, progress=lambda *step: seen.append(step))
    total = sum(path.stat().st_size for path in large.iterdir())
    assert seen[-1] == (total, total)
    assert seen == sorted(seen)


@pytest.mark.parametrize("size", [0, 3, 5000])
def test_a_file_that_changes_while_it_is_read_is_an_error(size, staging, about, tmp_path):
    def change(done: int, total: int) -> None:
        os.truncate(staging / "MANIFEST-000004", size)

    with pytest.raises(DatabaseError, match="changed"):
        format_2.write_archive(tmp_path / "a.tar.gz", staging, about, progress=change)
    assert not (tmp_path / "a.tar.gz").exists()


@pytest.mark.parametrize("odd", ["link", "folder", "pipe", "white space", "-option"])
def test_only_plain_files_with_plain_names_are_archived(odd, staging, about, tmp_path):
    path = staging / odd
    if odd == "link":
        path.symlink_to("CURRENT")
    elif odd == "folder":
        path.mkdir()
    elif odd == "pipe":
        os.mkfifo(path)
    else:
        path.touch()
    with pytest.raises(ArchiveUnsafe, match=odd):
        format_2.write_archive(tmp_path / "a.tar.gz", staging, about)
    assert not (tmp_path / "a.tar.gz").exists()


@pytest.mark.slow
def test_memory_stays_the_same_at_any_size(staging, about, tmp_path):
    """300 MB are written, verified and unpacked by a process whose own memory hardly grows."""
    os.truncate(staging / "000005.ldb", 300 * 2**20)
    (tmp_path / "about.json").write_bytes(msgspec.json.encode(about))
    script = textwrap.dedent("""
        import sys
        from pathlib import Path
        import msgspec
        from eventvault.archive import reader
        from eventvault.archive.manifest import Manifest
        from tests import format_2

        def own_memory():
            lines = Path("/proc/self/status").read_text().splitlines()
            return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

        most = 0
        def watch(done, total):
            global most
            most = max(most, own_memory())

        folder = Path(sys.argv[1])
        about = msgspec.json.decode((folder / "about.json").read_bytes(), type=Manifest)
        began = own_memory()
        format_2.write_archive(folder / "a.tar.gz", folder / "staging", about, progress=watch)
        reader.verify(folder / "a.tar.gz", progress=watch)
        reader.unpack(folder / "a.tar.gz", folder / "unpacked", progress=watch)
        print(most - began)
    """)
    done = subprocess.run([sys.executable, "-c", script, tmp_path], cwd=PROJECT, capture_output=True, check=True)
    assert 0 < int(done.stdout) < 50 * 1024
    assert (tmp_path / "unpacked/event_registry_db/000005.ldb").stat().st_size == 300 * 2**20


MANY = 20_000, pytest.param(99_997, marks=pytest.mark.soak)


@pytest.mark.slow
@pytest.mark.parametrize("count", MANY)
def test_many_files_take_little_memory(count, about, tmp_path):
    """The most that a reader accepts take less than 80 MB, with the interpreter."""
    (tmp_path / "staging").mkdir()
    for number in range(count):
        (tmp_path / "staging" / f"{number:06}.ldb").write_bytes(number.to_bytes(40, "little"))
    (tmp_path / "about.json").write_bytes(msgspec.json.encode(about))
    script = textwrap.dedent("""
        import sys
        from pathlib import Path
        import msgspec
        from eventvault.archive.manifest import Manifest
        from tests.processes import own_memory
        from tests import format_2

        folder, most = Path(sys.argv[1]), 0
        def watch(*_):
            global most
            most = max(most, own_memory("self"))
        about = msgspec.json.decode((folder / "about.json").read_bytes(), type=Manifest)
        target, staging = folder / "a.tar.gz", folder / "staging"
        format_2.write_archive(target, staging, about, seal=lambda _root: watch() or bytes(32), progress=watch)
        print(most)
    """)
    done = subprocess.run([sys.executable, "-c", script, tmp_path], cwd=PROJECT, capture_output=True, check=True)
    assert int(done.stdout) < (20 + 60 * count / 100_000) * 2**20


@pytest.mark.slow
@pytest.mark.parametrize("limit", ["MAX_INDEX_BYTES", "_MAX_MEMBERS"])
def test_an_index_that_would_be_too_long_is_found_before_anything_is_written(
    limit, large, about, tmp_path, monkeypatch
):
    monkeypatch.setattr(index, limit, 2)
    with pytest.raises(TooLarge, match="a reader takes"):
        format_2.write_archive(tmp_path / "a.tar.gz", large, about, progress=lambda *_: pytest.fail("it was begun"))
    assert not list(tmp_path.glob("*.tar.gz*"))


@pytest.mark.slow
def test_an_index_is_no_longer_than_was_foreseen(large_archive):
    sizes = {path.name: path.stat().st_size for path in large_archive.with_name("large").iterdir()}
    with tarfile.open(large_archive) as tar:
        written = tar.getmember("INDEX.json").size
    assert written <= index.longest_index(sizes) < 1.1 * written + 16 * 1024


@pytest.mark.parametrize("count", [0, 1, 999, 1000, 1001, 2500])
def test_a_manifest_in_parts_is_the_manifest(count, about):
    files = [FileRecord(f"{number:06}.ldb", number, "0" * 64) for number in range(count)]
    complete = msgspec.structs.replace(about, files=files, kafka={"files": []}, label='\n "files": []')
    whole = msgspec.json.format(msgspec.json.encode(complete), indent=1) + b"\n"
    assert b"".join(manifest.encode_in_parts(complete)) == whole


@pytest.mark.slow
def test_what_was_written_is_verified_and_unpacked(large_archive, tmp_path):
    assert reader.verify(large_archive) == reader.unpack(large_archive, tmp_path / "out")
    assert content_of(tmp_path / "out/event_registry_db") == content_of(large_archive.with_name("large"))


def spoil_members(monkeypatch: pytest.MonkeyPatch, spoil) -> None:
    """As if memory failed while a piece of 5000 bytes or more is compressed."""
    real = layout.member

    def member(content, header=layout.PLAIN_HEADER, compression="fast"):
        packed = real(content, header, compression)
        return spoil(bytes(content), packed) if len(content) > 5000 else packed

    monkeypatch.setattr(layout, "member", member)


def flipped(position: int):
    def flip(_content: bytes, packed: bytes) -> bytes:
        spoiled = bytearray(packed)
        spoiled[position % len(packed)] ^= 1
        return bytes(spoiled)

    return flip


SPOILED = {
    "first byte of deflate": flipped(10),
    "middle": flipped(3001),
    "checksum": flipped(-8),
    "length": flipped(-1),
    "cut": lambda _content, packed: packed[:-1],
    "less": lambda content, _packed: gzip.compress(content[:-512]),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", SPOILED)
def test_what_does_not_inflate_to_the_file_is_found_before_the_archive_has_a_name(
    what, large, about, tmp_path, monkeypatch
):
    spoil_members(monkeypatch, SPOILED[what])
    with pytest.raises(ArchiveDamaged, match="give the file back"):
        format_2.write_archive(tmp_path / "a.tar.gz", large, about, compare=True)
    assert [path.name for path in tmp_path.iterdir()] == ["staging"]


@pytest.mark.slow
@pytest.mark.parametrize("what", SPOILED)
def test_what_does_not_inflate_to_the_file_is_found_later_too(what, large, about, tmp_path, monkeypatch):
    path = tmp_path / "a.tar.gz"
    with monkeypatch.context() as patch:
        spoil_members(patch, SPOILED[what])
        written = format_2.write_archive(path, large, about)
    names = [name for name in written.compressed if name != "000011.ldb"]
    with pytest.raises(ArchiveDamaged):
        check_content(archive=str(path), names=["000011.ldb"])
    with pytest.raises(ArchiveDamaged):
        check_content(archive=str(path), names=names)
    assert check_content(archive=str(path), names=["CURRENT", "000014.ldb"]) == {}
