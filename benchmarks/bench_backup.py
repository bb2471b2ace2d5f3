"""`make bench-backup`: measures backups and a restore against tar, pigz, zstd, restic and borg in one run.

BENCH_OPTIONS='--size 100 --rounds 1' makes it short; `--help` lists all options.
"""

from __future__ import annotations

import argparse
import filecmp
import itertools
import os
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from functools import reduce
from pathlib import Path

from benchmarks import events, limits, memory, page, peers, report, serving, sharing
from benchmarks.peers import PEERS, Peer, Result
from tests import processes
from tests.service import Service

MEGABYTE = 10**6
DATABASE = "event_registry_db"
INTRODUCTION = """\
Made by `make bench-backup`. {events:,} events of JSON in a LevelDB of {size:,} MB, and 1 % more before the second
backup. All programs get the same files in the same two states. All events are in tables, and unchanged files keep their
inodes and times. The programs take turns in {rounds} rounds; the best time of each counts, because noise only adds. All
files are in the page cache, and the journal has caught up, as in a running service. EventVault is timed as a whole
request: checkpoint, archive, `fsync`, reading new members back from the disk, checking copied ones, catalogue. The
restore is that of an archive that this installation made and that the catalogue no longer knows, so nobody has verified
it before; it ends when the restored events are served. The other programs need not sync. If more than 32 MiB of tables
are new, they are checked after the request and before the next one. Memory is RssAnon of the largest process; for
EventVault, of the process that makes, checks or unpacks the archive.
"""
TARGETS = {
    "tar czf": (12, 60, 4), "tar + pigz": (6, 30, 2.5), "tar + zstd -T0": (1.3, 6, 0.9), "restic": (3, 1.5, 1.5),
    "borg lz4": (1.4, 0.5, 2),
}  # fmt: skip
"""How many times faster EventVault should be: first backup, second backup, restore."""
MOST_MEMORY = 80 * MEGABYTE
MOST_SECONDS_PER_GB = {"verify": 1.5, "verify, record by record": 7.0}
LEAST_REPLAYED = 100_000
"""Events per second that a restore of an archive without proof should replay."""


def mirror(source: Path, target: Path) -> None:
    """Make the files of `target` equal to those of `source`, without touching files that are equal already."""
    target.mkdir(parents=True, exist_ok=True)
    for path in target.iterdir():
        if path.name != "LOCK" and not (source / path.name).exists():
            path.unlink()
    for path in source.iterdir():
        there = target / path.name
        if path.name != "LOCK" and not (there.exists() and filecmp.cmp(path, there, shallow=False)):
            there.unlink(missing_ok=True)
            shutil.copy2(path, there)


def verified(service: Service) -> bool:
    """Whether the newest backup is verified: many new tables are checked after it was made, at low priority."""
    return service.get("/api/backup/list").json()["backups"][0]["verified"] is not None


def timed_post(
    service: Service, address: str, body: dict[str, object] | None = None
) -> tuple[float, dict[str, object]]:
    began = time.perf_counter()
    reply = service.post(address, body or {}, timeout=3600)
    seconds = time.perf_counter() - began
    if reply.status != 200:
        raise SystemExit(f"{address} answered {reply.status}: {reply.body!r}")
    answer: dict[str, object] = reply.json()
    return seconds, answer


def created(service: Service) -> float:
    """Return the seconds of a backup. All its tables are checked afterwards."""
    seconds = timed_post(service, "/api/backup/create")[0]
    processes.wait_until(lambda: verified(service), "the tables are not checked", seconds=600)
    return seconds


def measure_ours(root: Path, states: tuple[Path, ...], result: Result, more: dict[str, list[float]]) -> None:
    """Measure a first and a second backup, verify, a restore of one that is not verified, then of one that is."""
    database = root / "STORAGE_DIR" / DATABASE
    mirror(states[0], database)
    with serving.caught_up(root) as service, memory.watched(service.mark) as most:
        result.first.append(timed_post(service, "/api/backup/create")[0])
        processes.wait_until(lambda: verified(service), "the tables are not checked", seconds=600)
    mirror(states[1], database)
    with serving.caught_up(root) as service, memory.watched(service.mark) as later:
        seconds, second = timed_post(service, "/api/backup/create")
        result.second.append(seconds)
        more["nothing new"].append(timed_post(service, "/api/backup/create", {"label": "again"})[0])
        name = second["name"]
        result.stored_bytes = sum(entry["size"] for entry in service.get("/api/backup/list").json()["backups"][1:])
        more["verify"].append(timed_post(service, f"/api/backup/{name}/verify")[0])
        records = timed_post(service, f"/api/backup/{name}/verify?records=true")[0]
        more["verify, record by record"].append(records)
        more["restore, verified"].append(timed_post(service, "/api/backup/restore", {"backupName": name})[0])
    (root / "BACKUP_DIR" / ".catalogue.json").unlink()
    with serving.caught_up(root) as service, memory.watched(service.mark) as restoring:
        result.restore.append(timed_post(service, "/api/backup/restore", {"backupName": name})[0])
    more["replay"].append(measure_replay(root / "BACKUP_DIR" / str(name), root / "elsewhere"))
    chores = (size for seen in (most, later, restoring) for role, size in seen.items() if "chore" in role)
    result.memory = max(result.memory, *chores)
    shutil.rmtree(root)


def measure_replay(archive: Path, root: Path) -> float:
    """Return the seconds of a restore in an installation that did not make the archive: its events are replayed."""
    (root / "BACKUP_DIR").mkdir(parents=True)
    shutil.copyfile(archive, root / "BACKUP_DIR" / archive.name)
    with serving.caught_up(root) as service:
        seconds, answer = timed_post(service, "/api/backup/restore", {"backupName": archive.name})
    if answer["proven"]:
        raise SystemExit(f"{archive.name} is proven in another installation, so its events were not replayed")
    return seconds


def measure_peer(peer: Peer, root: Path, states: tuple[Path, ...], result: Result) -> None:
    places = {name: str(root / name) for name in ("data", "work", "out", "cache")}
    for path in places.values():
        Path(path).mkdir(parents=True)
    mirror(states[0], root / "data" / DATABASE)
    if peer.setup:
        peers.run(peer.setup, places)
    for command, seconds, state in ((peer.first, result.first, 0), (peer.second, result.second, 1)):
        mirror(states[state], root / "data" / DATABASE)
        os.sync()
        took, used = peers.run(command, places)
        seconds.append(took)
        result.memory = max(result.memory, used)
        if state == 0:
            result.stored_bytes_first = peers.size_of(root / "work" / peer.stored_in)
    result.stored_bytes = peers.size_of(root / "work" / peer.stored_in)
    took, used = peers.run(peer.restore, places)
    result.restore.append(took)
    result.memory = max(result.memory, used)
    shutil.rmtree(root)


def measure_other_settings(folder: Path, states: tuple[Path, ...], tar: Result) -> list[str]:
    """Return time and size of a first backup with ARCHIVE_COMPRESSION=small and store, compared with tar czf."""
    lines = []
    for compression in ("small", "store"):
        root = folder / compression
        mirror(states[0], root / "STORAGE_DIR" / DATABASE)
        with serving.caught_up(root, {"ARCHIVE_COMPRESSION": compression}) as service:
            seconds, made = timed_post(service, "/api/backup/create")
        size = int(str(made["size"]))
        beside = ""
        if tar.first:
            verdict = "met" if compression != "small" or size <= tar.stored_bytes_first else "not met"
            beside = f"; `tar czf` made {tar.stored_bytes_first / MEGABYTE:,.0f} MB in {min(tar.first):.1f} s"
            beside += f" (target for small: no larger, {verdict})" if compression == "small" else ""
        lines.append(f"`ARCHIVE_COMPRESSION={compression}`: {size / MEGABYTE:,.0f} MB in {seconds:.1f} s{beside}.")
        shutil.rmtree(root)
    return lines


def table(ours: Result, others: dict[str, Result]) -> str:
    rows = ["| program | first s | second s | restore s | MB after both | memory MB |", "|---|---|---|---|---|---|"]
    for name, result in {"**EventVault**": ours, **others}.items():
        times = " | ".join(f"{min(seconds):.2f}" for seconds in (result.first, result.second, result.restore))
        rows.append(f"| {name} | {times} | {result.stored_bytes / MEGABYTE:,.0f} | {result.memory / MEGABYTE:,.0f} |")
    return "\n".join(rows)


def ratios(ours: Result, others: dict[str, Result]) -> str:
    rows = ["| EventVault against | first | second | restore |", "|---|---|---|---|"]
    for name, wanted in TARGETS.items():
        if name in others:
            rows.append(f"| {name} | " + " | ".join(_cells(ours, others[name], wanted)) + " |")
    return "\n".join(rows)


def _cells(ours: Result, other: Result, wanted: tuple[float, ...]) -> Iterator[str]:
    for part, target in zip(("first", "second", "restore"), wanted, strict=True):
        ratio = min(getattr(other, part)) / min(getattr(ours, part))
        yield f"{ratio:.1f}× (target {target}×: {'met' if ratio >= target else 'not met'})"


def others_table(more: dict[str, list[float]], used: int, size: int, count: int) -> str:
    rows = ["| EventVault, other operations | measured | target | met |", "|---|---|---|---|"]
    for what, seconds in more.items():
        took, target, met = min(seconds), "", ""
        if what in MOST_SECONDS_PER_GB:
            most = MOST_SECONDS_PER_GB[what]
            target, met = f"{most} s for 1 GB", yes(took / size * 10**9 <= most)
        measured = f"{took:.1f} s"
        if what == "replay":
            measured += f", {count / took:,.0f} events/s"
            target, met = f"{LEAST_REPLAYED:,} events/s", yes(count / took >= LEAST_REPLAYED)
        rows.append(f"| {what} | {measured} | {target} | {met} |")
    limit = MOST_MEMORY / MEGABYTE
    rows.append(f"| memory | {used / MEGABYTE:,.0f} MB | {limit:.0f} MB | {yes(used <= MOST_MEMORY)} |")
    return "\n".join(rows)


def yes(met: bool) -> str:
    return "yes" if met else "no"


def profile(ours: Result, alone: limits.Limits, size: int) -> list[str]:
    """Return a table of each part's speed alone on this machine, and the minimum time of the whole."""
    floors = alone.floors(size)
    measured = {part: min(getattr(ours, part)) for part in floors}
    words = ", ".join(f"{part} {measured[part]:.2f} s of which {floor:.2f} s" for part, floor in floors.items())
    return [
        "Where the time goes, each part alone:",
        alone.table(),
        f"So the minimum time, with all cores busy and no other load, is: {words}. The rest is the start of a process,"
        " the checkpoint, `fsync`, the disk, the catalogue, for a restore also opening and swapping the database, and"
        " other load of the machine.",
        "A first backup takes as long as the cores need to compress and to hash each file and each member. A second one"
        " copies unchanged members and checks their digests. Every archive is complete: all of its bytes go to the disk"
        " where the file system cannot share blocks. restic and borg write new data only. A restore hashes the archive"
        " and each file, and syncs its files before the swap.",
    ]


def commands(used: list[Peer]) -> str:
    lines = ["# EventVault: beside gunicorn with one worker\ncurl -X POST localhost:5050/api/backup/create\n"
             "curl -X POST localhost:5050/api/backup/create\ncurl -X POST localhost:5050/api/backup/<name>/verify\n"
             "curl -X POST localhost:5050/api/backup/restore -d '{\"backupName\": \"<name>\"}'"]  # fmt: skip
    for peer in used:
        parts = [part for part in (peer.setup, peer.first, peer.second, peer.restore) if part]
        lines.append(f"# {peer.name}: {peers.version_of(peer)}\n" + "\n".join(parts))
    return "```sh\n" + "\n\n".join(lines) + "\n```"


def states_of(folder: Path, megabytes: int) -> tuple[tuple[Path, ...], int]:
    """Return folders with the database, each with 1 % more events, and the number of events in the first."""
    states = [folder / f"state-{hour}" / DATABASE for hour in range(sharing.HOURS)]
    count = events.fill(states[0], megabytes * MEGABYTE, seed=1)
    events.settle(states[0])
    for hour, (before, state) in enumerate(itertools.pairwise(states), start=2):
        linked(before, state)
        events.fill(state, megabytes * MEGABYTE // 100, seed=hour)
        events.settle(state)
    return tuple(states), count


def linked(source: Path, target: Path) -> None:
    """Copy a database: its tables, which nobody changes, as hard links."""

    def copy(path: str, place: str) -> None:
        if path.endswith(".ldb"):
            os.link(path, place)
        else:
            shutil.copy2(path, place)

    shutil.copytree(source, target, copy_function=copy)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1000, help="size of the database in MB (default 1000)")
    parser.add_argument("--rounds", type=int, default=2, help="rounds of all programs (default 2)")
    parser.add_argument("--folder", type=Path, default=None, help="folder for the data (default: the temporary folder)")
    parser.add_argument("--only-sharing", action="store_true", help="only measure on XFS and btrfs, and write no page")
    parser.add_argument("--only-ours", action="store_true", help="run no other program, and write no page")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-backup-", dir=options.folder) as name:
        run(options, Path(name))


def run(options: argparse.Namespace, folder: Path) -> None:
    states, count = states_of(folder, options.size)
    shared = "" if options.only_ours else sharing.measure(folder, states, mirror, created)
    if options.only_sharing:
        print(shared)
        return
    used = [] if options.only_ours else [peer for peer in PEERS if peers.installed(peer)]
    missing = [peer.name for peer in PEERS if not peers.installed(peer)]
    ours, others = Result(), {peer.name: Result() for peer in used}
    more = defaultdict[str, list[float]](list)
    measured: list[limits.Limits] = []
    for number in range(options.rounds):
        os.sync()
        measured.append(limits.measure(states[0], folder))
        measure_ours(folder / f"ours-{number}", states[:2], ours, more)
        for peer in used:
            measure_peer(peer, folder / f"peer-{number}", states[:2], others[peer.name])
            print(f"round {number + 1}: {peer.name} is done", flush=True)
    settings = measure_other_settings(folder, states[:2], others.get("tar czf", Result()))
    parts = [table(ours, others)]
    if others:
        parts.append(ratios(ours, others))
    if missing:
        parts.append(f"Not installed here, and so not compared: {', '.join(missing)}.")
    alone = reduce(limits.Limits.or_better, measured)
    parts += [
        others_table(more, ours.memory, peers.size_of(states[0]), count),
        *settings,
        *([shared] if shared else []),
        *profile(ours, alone, peers.size_of(states[0])),
    ]
    if not options.only_ours:
        size = sum(path.stat().st_size for path in states[0].iterdir()) // MEGABYTE
        head = INTRODUCTION.format(events=count, size=size, rounds=options.rounds)
        machine = f"Measured on: {report.machine(folder)}."
        text = "\n\n".join(["## Backups", head.strip(), machine, *parts, "The commands:", commands(used)])
        page.write_section(report.PAGE, "bench-backup", text)
    print("\n\n".join(parts))


if __name__ == "__main__":
    main()
