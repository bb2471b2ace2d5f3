"""One start of the service: `start_once NAME`. Prints each event that was acknowledged, then waits for EOF."""

from __future__ import annotations

import sys
import time
from contextlib import suppress

from eventvault.backup_manager import BackupManager
from eventvault.errors import EventVaultError
from eventvault.events.event import draft
from eventvault.settings import load
from eventvault.store.rpc.client import StoreClient
from tests.stores import STORE_COMMAND


def serves(client: StoreClient) -> bool:
    with suppress(EventVaultError):
        return bool(client.status()["store"]["state"] == "serving")
    return False


def main(name: str) -> None:
    client = BackupManager(load(), STORE_COMMAND).initialize()
    client._patience = 90.0  # a busy machine takes its time to start the store that takes over
    deadline = time.monotonic() + 90
    while not serves(client) and time.monotonic() < deadline:
        time.sleep(0.01)
    for number in range(3):
        event = f"{name}{number}"
        client.append([draft({"type": "t", "id": event, "source": "/acknowledged"}, 0)])
        print(event, flush=True)
    print("done", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1])
