"""The programs that backups are compared with: their commands for a first backup, a second one and a restore."""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import memory
from tests import processes


@dataclass(frozen=True)
class Peer:
    """Shell commands. {data} holds the folder event_registry_db; {work} and {out} are empty at first.

    setup runs before, untimed. stored_in: the path below {work} that holds both backups.
    """

    name: str
    program: str
    first: str
    second: str
    restore: str
    version: str
    setup: str = ""
    stored_in: str = "."


def _tar(name: str, program: str, how: str, version: str) -> Peer:
    return Peer(
        name,
        program,
        first=f"tar {how} -cf {{work}}/first -C {{data}} event_registry_db",
        second=f"tar {how} -cf {{work}}/second -C {{data}} event_registry_db",
        restore=f"tar {how} -xf {{work}}/second -C {{out}}",
        version=version,
    )


def _borg(compression: str) -> Peer:
    create = f"cd {{data}} && borg create --compression {compression} {{work}}/repository::%s event_registry_db"
    return Peer(
        f"borg {compression}",
        "borg",
        setup="borg init --encryption none {work}/repository",
        first=create % "first",
        second=create % "second",
        restore="cd {out} && borg extract {work}/repository::second",
        version="borg --version",
        stored_in="repository",
    )


PEERS = (
    _tar("tar czf", "tar", "-z", "tar --version"),
    _tar("tar + pigz", "pigz", "-I pigz", "pigz --version"),
    _tar("tar + zstd -T0", "zstd", "-I 'zstd -T0'", "zstd --version"),
    Peer(
        "restic",
        "restic",
        setup="restic -q init -r {work}/repository",
        first="cd {data} && restic -q backup -r {work}/repository event_registry_db",
        second="cd {data} && restic -q backup -r {work}/repository event_registry_db",
        restore="restic -q restore latest -r {work}/repository --target {out}",
        version="restic version",
        stored_in="repository",
    ),
    _borg("lz4"),
    _borg("zstd,3"),
)


@dataclass
class Result:
    """Seconds, stored bytes after the first and after both backups, and the maximum memory of a process in bytes."""

    first: list[float] = field(default_factory=list)
    second: list[float] = field(default_factory=list)
    restore: list[float] = field(default_factory=list)
    stored_bytes_first: int = 0
    stored_bytes: int = 0
    memory: int = 0


def installed(peer: Peer) -> bool:
    return shutil.which(peer.program) is not None


def version_of(peer: Peer) -> str:
    done = subprocess.run(shlex.split(peer.version), capture_output=True, text=True, check=True)
    return (done.stdout or done.stderr).splitlines()[0].strip()


def run(command: str, places: dict[str, str]) -> tuple[float, int]:
    """Run a command; return its seconds and the maximum memory (RssAnon) of one of its processes in bytes."""
    mark = secrets.token_hex(8)
    environment = {
        **os.environ,
        processes.MARK: mark,
        "RESTIC_PASSWORD": "benchmark",
        "XDG_CACHE_HOME": places["cache"],
        "BORG_BASE_DIR": places["cache"],
        "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
        "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
    }
    with memory.watched(mark) as most:
        began = time.perf_counter()
        done = subprocess.run(["sh", "-c", command.format(**places)], env=environment, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{command} ended with status {done.returncode}")
    return seconds, max(most.values(), default=0)


def size_of(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(path.stat().st_size for path in path.rglob("*") if path.is_file())
