"""File systems that tests mount, for those who may; a test that needs one is skipped with the reason elsewhere.

All are unmounted at the end, also where the test process is killed: a shell that waits for its end does it then.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests import processes

PROJECT = Path(__file__).resolve().parent.parent
MEGABYTES = 512
"""The size of a disk, of which a file takes what is written. XFS needs 300."""
MAKE_DISK = {
    "xfs": ("mkfs.xfs", "-q", "-b", "size=4096"),
    "btrfs": ("mkfs.btrfs", "-q", "-s", "4096"),
    "ext4": ("mkfs.ext4", "-q", "-b", "4096"),
}
"""How a disk in a file gets a file system with blocks of 4 KiB."""
LIMITED = {"linkless": ("--sync-folders",), "limited": ()}
"""Options of `tests.limited_file_system`."""
KINDS = (*MAKE_DISK, "tmpfs", *LIMITED)
"""The kinds of file systems that `folder_on` knows."""
_UNMOUNT = 'read -r _; umount "$0" || umount --lazy "$0"'


class CannotMount(Exception):
    """This kind of file system cannot be mounted here; says why."""


@contextmanager
def tiny_disk(folder: Path, megabytes: int, *, inodes: int = 0) -> Iterator[Path]:
    """A disk of that size at `folder`. inodes: how many files and folders it holds; 0: any number."""
    folder.mkdir(parents=True, exist_ok=True)
    with _or_skip(), _tmpfs(folder, megabytes, inodes):
        yield folder


@contextmanager
def bound(source: Path, folder: Path) -> Iterator[None]:
    """The folder `source` as a volume that is mounted at `folder`."""
    with _or_skip(), _mounted(folder, "--bind", str(source)):
        yield


@contextmanager
def overlaid(folder: Path, upper: Path) -> Iterator[None]:
    """`folder` as the lower layer of an overlay, which is mounted over it. upper: an empty folder for a disk."""
    with tiny_disk(upper, MEGABYTES), _or_skip():
        for name in ("changes", "work"):
            (upper / name).mkdir()
        layers = f"lowerdir={folder},upperdir={upper}/changes,workdir={upper}/work"
        with _mounted(folder, "-t", "overlay", "-o", layers, "overlay"):
            yield


@contextmanager
def without_sockets(folder: Path) -> Iterator[Path]:
    """A folder on a file system without Unix sockets, as SMB and 9p are. It is mounted below `folder`."""
    mount_point = folder / "mount"
    mount_point.mkdir(parents=True)
    with _or_skip(), _limited(mount_point, "--sync-folders", "--no-sockets"):
        yield mount_point


@contextmanager
def small_ext4(folder: Path, megabytes: int, *, inodes: int) -> Iterator[Path]:
    """A disk of that size with ext4 at `folder`, for that many files and folders."""
    folder.mkdir(parents=True, exist_ok=True)
    image = folder.with_name(f"{folder.name}.image")
    with image.open("xb") as file:
        file.truncate(megabytes * 2**20)
    with _or_skip():
        _run("mkfs.ext4", "-q", "-b", "4096", "-m", "0", "-N", str(inodes), str(image))
        with _mounted(folder, "-t", "ext4", "-o", "loop", str(image)):
            yield folder


def make_writable(folder: Path) -> None:
    """End what `read_only` did, while programs have files open there."""
    subprocess.run(["mount", "-o", "remount,bind,rw", folder], capture_output=True, check=True)


def fill_bytes(folder: Path) -> None:
    """Leave no free byte on the small disk of `folder`."""
    with (folder / "filler").open("ab", buffering=0) as file, suppress(OSError):
        for size in (2**20, 4096, 1):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))


def fill_inodes(folder: Path) -> None:
    """Leave no free inode on the small disk of `folder`."""
    with suppress(OSError):
        for number in itertools.count():
            (folder / f"filler-{number}").touch()


@contextmanager
def read_only(folder: Path, source: Path | None = None) -> Iterator[None]:
    """`folder` as on a read-only mount: nothing in it can be made, changed, moved or removed.

    source: the folder that is mounted there; by default `folder` itself.
    """
    with _or_skip(), _mounted(folder, "--bind", str(source or folder)):
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], capture_output=True, check=True)
        yield


@pytest.fixture(scope="session")
def mount_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """Call it with one of KINDS: returns the folder at which that kind is mounted, once a session. See `mount`."""
    mount_points: dict[str, Path] = {}
    with ExitStack() as mounts:

        def find(kind: str) -> Path:
            if kind not in mount_points:
                mount_points[kind] = mounts.enter_context(mount(kind, tmp_path_factory.mktemp(kind)))
            return mount_points[kind]

        yield find


@pytest.fixture
def folder_on(mount_of: Callable[[str], Path], tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Call it with one of KINDS: returns a folder of this test on such a file system; skips where it cannot be had.

    With CI=true that is a failure, but for those of LIMITED, as containers seldom have /dev/fuse.
    """
    folders = []

    def make(kind: str) -> Path:
        try:
            folder = mount_of(kind) / tmp_path.name
        except CannotMount as reason:
            if kind not in LIMITED and os.environ.get("CI", "").lower() in ("true", "1"):
                pytest.fail(f"CI=true does not allow to skip: {reason}")
            pytest.skip(str(reason))
        folder.mkdir()
        folders.append(folder)
        return folder

    yield make
    for folder in folders:
        shutil.rmtree(folder)


@contextmanager
def mount(kind: str, folder: Path, megabytes: int = MEGABYTES) -> Iterator[Path]:
    """Mount a file system of one of KINDS in `folder`, and return its mount point. Raises CannotMount."""
    mount_point = folder / "mount"
    mount_point.mkdir()
    with _file_system(kind, mount_point, megabytes):
        yield mount_point


def _file_system(kind: str, mount_point: Path, megabytes: int) -> AbstractContextManager[None]:
    if kind in LIMITED:
        return _limited(mount_point, *LIMITED[kind])
    return _tmpfs(mount_point, megabytes) if kind == "tmpfs" else _disk_in_a_file(kind, mount_point, megabytes)


def _tmpfs(folder: Path, megabytes: int, inodes: int = 0) -> AbstractContextManager[None]:
    return _mounted(folder, "-t", "tmpfs", "-o", f"size={megabytes}m,nr_inodes={inodes}", "tmpfs")


@contextmanager
def _disk_in_a_file(kind: str, mount_point: Path, megabytes: int) -> Iterator[None]:
    image = mount_point.with_name("image")
    with image.open("xb") as file:
        file.truncate(megabytes * 2**20)
    try:
        _run(*MAKE_DISK[kind], str(image))
        with _mounted(mount_point, "-t", kind, "-o", "loop", str(image)):
            yield
    finally:
        image.unlink()


@contextmanager
def _limited(mount_point: Path, *options: str) -> Iterator[None]:
    folder = mount_point.with_name("folder")
    folder.mkdir()
    command = [sys.executable, "-m", "tests.limited_file_system", str(folder), str(mount_point), *options]
    with (
        (mount_point.with_name("log")).open("w+b") as log,
        subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.DEVNULL, stderr=log, start_new_session=True) as server,
    ):
        try:
            with _unmounting(mount_point):
                processes.wait_until(lambda: mount_point.is_mount() or server.poll() is not None, "it is not mounted")
                if server.poll() is not None:
                    raise CannotMount(f"FUSE: {Path(log.name).read_text().strip()[-300:]}")
                yield
            server.wait(90)
        finally:
            server.kill()


@contextmanager
def _mounted(folder: Path, *what: str) -> Iterator[None]:
    with _unmounting(folder):
        _run("mount", *what, str(folder))
        yield


@contextmanager
def _unmounting(folder: Path) -> Iterator[None]:
    """Unmount what is mounted at `folder` in this context, when it ends or this process does."""
    shell = subprocess.Popen(
        ["sh", "-c", _UNMOUNT, folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        shell.communicate(b"\n", timeout=60)


def _run(*command: str) -> None:
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    program = shutil.which(command[0], path=path)
    if program is None:
        raise CannotMount(f"there is no {command[0]}")
    done = subprocess.run([program, *command[1:]], capture_output=True, check=False)
    if done.returncode:
        raise CannotMount(f"nothing can be mounted here: {done.stderr.decode().strip()}")


@contextmanager
def _or_skip() -> Iterator[None]:
    try:
        yield
    except CannotMount as reason:
        pytest.skip(str(reason))
