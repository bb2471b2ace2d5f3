"""BackupManager.initialize(): what each process of the service does before it serves, one process at a time."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import time
from collections.abc import Sequence

from eventvault import __version__, data_folders
from eventvault.backups.installation_folder import check_folder
from eventvault.errors import EventVaultError
from eventvault.file_locks import holding
from eventvault.files import make_folder
from eventvault.folder_abilities import clear_lock_paths
from eventvault.settings import Settings, make_folders
from eventvault.store.process import MASTER_VARIABLE, SERVICE_VARIABLE, lifeline
from eventvault.store.process.ownership import announce_start
from eventvault.store.process.spawn import Spawner
from eventvault.store.rpc.client import StoreClient
from eventvault.store.rpc.wire import PROTOCOL, StoreHello

log = logging.getLogger("BackupManager")

_LOCK_SECONDS = 60.0
_OWN_STORE_SECONDS = 20.0


class BackupManager:
    """Makes the folders, and ensures that a store of this start of the service runs.

    command: starts a store. The store itself restores what lies in `restore/`, because that may take long and no
    gunicorn worker should wait for it.
    """

    def __init__(self, settings: Settings, command: Sequence[str], *, mode: str = "service") -> None:
        self._settings = settings
        service = os.environ.get(SERVICE_VARIABLE) or f"process-{os.getpid()}-{secrets.token_hex(4)}"
        self._spawner = Spawner(settings, command, service=service, mode=mode)

    def initialize(self) -> StoreClient:
        """Return a client of the store. Idempotent, and under a file lock: the second process finds everything done."""
        settings = self._settings
        with contextlib.suppress(OSError):  # `make_folders` says why
            make_folder(settings.storage_dir)
        clear_lock_paths(settings)
        client = StoreClient.over(self._spawner)
        with holding(settings.storage_dir / data_folders.INITIALIZE_LOCK, _LOCK_SECONDS):
            self._make_folders()
            with contextlib.suppress(EventVaultError):  # each request and health say so
                if self._spawner.mode == "service":
                    announce_start(settings.storage_dir, self._spawner.service)
                    self._spawner.ensure_own(self._is_own, time.monotonic() + _OWN_STORE_SECONDS)
                client.ensure()
        if self._spawner.mode == "service":
            lifeline.register(client)
            if os.environ.get(MASTER_VARIABLE) != str(os.getpid()):
                lifeline.start_all()
        return client

    def _make_folders(self) -> None:
        """Bind the two data folders to each other, one process at a time: two would give them different ids."""
        with contextlib.suppress(EventVaultError):  # health and each backup say so
            check_folder(self._settings)
        make_folders(self._settings)

    def _is_own(self, hello: StoreHello) -> bool:
        """Return True for a store of this start of the service, and for a store that runs as a service of its own."""
        same = (hello.service, hello.version, hello.protocol) == (self._spawner.service, __version__, PROTOCOL)
        return same or hello.mode == "standalone"
