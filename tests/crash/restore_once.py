"""Run as a process that is killed on its way: a store that restores in its main thread.

python restore_once.py api NAME     opens the database, then restores the archive NAME of BACKUP_DIR
python restore_once.py moment N      opens the database, then restores to event N
python restore_once.py undo         opens the database, then undoes the newest restore
python restore_once.py start        starts as a service does: what lies in RESTORE_DIR is restored
"""

from __future__ import annotations

import sys

from eventvault.restore.values import Moment
from eventvault.settings import load
from eventvault.store.process.ownership import OwnerLock, remember_starts, starts_to_serve
from eventvault.store.service import StoreService

SERVICE = "the-one-that-is-killed"


def main(how: str, *names: str) -> None:
    settings = load()
    lock = OwnerLock(settings.storage_dir)
    assert lock.acquire(30)
    store = StoreService(
        settings,
        service_starts=how == "start" and bool(starts_to_serve(settings.storage_dir, SERVICE)),
        on_started=lambda: remember_starts(settings.storage_dir, [SERVICE]),
        with_kafka=False,
    )
    store.initialize()
    assert store.state == "serving", store.bus.problem
    if how == "api":
        store.restore(names[0])
    if how == "moment":
        store.restore_moment(Moment(sequence=int(names[0])))
    if how == "undo":
        store.undo()
    store.stop()
    store.bus.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
