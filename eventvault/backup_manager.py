"""BackupManager.initialize(): what each process of the service does before it serves, one process at a time."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Sequence

from filelock import FileLock

from eventvault import __version__, data_folders
from eventvault.settings import Settings, make_folders
from eventvault.store.process import MASTER_VARIABLE, SERVICE_VARIABLE, lifeline
from eventvault.store.process.spawn import Spawner
from eventvault.store.rpc.client import StoreClient
from eventvault.store.rpc.wire import PROTOCOL

log = logging.getLogger("BackupManager")

_LOCK_SECONDS = 60.0
_END_SECONDS = 20.0


class BackupManager:
    """Makes the folders and makes sure that a store of this service start runs.

    command: how to start one. The store itself restores what lies in `restore/`, as that may take long and no gunicorn
    worker should wait for it.
    """

    def __init__(self, settings: Settings, command: Sequence[str], *, mode: str = "service") -> None:
        self._settings = settings
        service = os.environ.get(SERVICE_VARIABLE) or f"process-{os.getpid()}-{secrets.token_hex(4)}"
        self._spawner = Spawner(settings, command, service=service, mode=mode)

    def initialize(self) -> StoreClient:
        """Return a client of the store. Idempotent, and under a file lock: the second process finds everything done."""
        settings = self._settings
        make_folders(settings)
        client = StoreClient.over(self._spawner)
        with FileLock(
            str(settings.storage_dir / data_folders.INITIALIZE_LOCK), timeout=_LOCK_SECONDS, thread_local=False
        ):
            self._replace_other()
            client.ensure()
        if self._spawner.mode == "service":
            lifeline.register(client)
            if os.environ.get(MASTER_VARIABLE) != str(os.getpid()):
                lifeline.start_all()
        return client

    def _replace_other(self) -> None:
        """End a store of an earlier start of the service, of the command line, or of another version.

        A store that runs as a service of its own (`standalone`) stays. A command uses whichever store there is.
        """
        hello = self._spawner.hello()
        if hello is None or self._spawner.mode == "command" or hello.mode == "standalone":
            return
        same = (hello.service, hello.version, hello.protocol) == (self._spawner.service, __version__, PROTOCOL)
        if not same:
            log.info("ending store process %s, of an earlier start or another version", hello.pid)
            self._spawner.end("")
            self._spawner.wait_until_gone(_END_SECONDS)
