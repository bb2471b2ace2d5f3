"""A swap that dies at its first and later changes of the file system, each time in a copy of its own.

Run as a program: `swap_killed.py TEMPLATE TARGET SEED MOST`. TEMPLATE holds `storage/`, `restore/` and `intent.json`;
for each k a copy of it becomes TARGET/k, in which a child process swaps and finishes the intent and dies before its
k-th change. The next k is larger by 1 to MOST, as chance has it: with 1, it is every one. Ends with the first k that no
child reaches: that child completes the restore.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from eventvault.database.bus import EventBus
from eventvault.restore.swap.finish import Finisher
from eventvault.restore.swap.intent import Intent
from eventvault.restore.swap.previous import PreviousDatabases
from eventvault.restore.swap.swapper import Swapper
from eventvault.settings import Settings, load

CHANGES = ("rename", "replace", "link", "unlink", "mkdir", "rmdir")
KILLED = 9


def main(template: Path, target: Path, chance: random.Random, most: int) -> None:
    number = 1
    while number < 200:
        folder = target / str(number)
        shutil.copytree(template, folder, symlinks=True)
        child = os.fork()
        if child == 0:
            die_at(number)
            swap(folder)
            os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != KILLED:
            return
        number += chance.randint(1, most)


def die_at(number: int) -> None:
    left = [number]

    def counted(change: Callable[..., Any]) -> Callable[..., Any]:
        def changed(*arguments: Any, **more: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                os._exit(KILLED)
            return change(*arguments, **more)

        return changed

    for name in CHANGES:
        setattr(os, name, counted(getattr(os, name)))


def settings_in(folder: Path) -> Settings:
    names = {"STORAGE_DIR": "storage", "BACKUP_DIR": "backups", "RESTORE_DIR": "restore"}
    publishing = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9", "KAFKA_PUBLISH_TOPIC": "published"}
    return load({**publishing, **{setting: str(folder / name) for setting, name in names.items()}})


def swap(folder: Path) -> None:
    settings = settings_in(folder)
    intent = msgspec.json.decode((folder / "intent.json").read_bytes(), type=Intent)
    intent = msgspec.structs.replace(intent, drop_file=str(folder / "restore" / "a.tar.gz"))
    Swapper(settings, EventBus(settings.database)).swap_closed(intent)
    Finisher(settings, PreviousDatabases(settings.storage_dir)).finish(intent)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), random.Random(int(sys.argv[3])), int(sys.argv[4]))
