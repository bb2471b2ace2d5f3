"""`flask backup recover`: recovers a lost database on request, as a start with AUTO_RECOVER=true does."""

from __future__ import annotations

import dataclasses
import os
import secrets
import time
from typing import Any

import click

from app.cli import exits, text
from app.cli.connection import current_settings
from app.cli.options import ask, json_option, require_answer, yes_option
from app.store import COMMAND
from app.store_retry import retry_while_store_is_away
from eventvault import errors
from eventvault.access.changes import TokenChanges
from eventvault.backups.catalogue import Catalogue
from eventvault.backups.installation import installation_of
from eventvault.backups.storage_mount import note_mount
from eventvault.damage import as_answer
from eventvault.journal.folder import JournalFolder
from eventvault.restore.start.lost import RecoverySources, find_recovery_sources, is_lost
from eventvault.settings import Settings
from eventvault.store.process.spawn import Spawner
from eventvault.store.rpc.client import StoreClient

_POLL_SECONDS = 0.05
_FOREIGN_TOKENS = (
    "BACKUP_DIR has tokens of another installation, which are not valid here; --with-tokens would have taken them: see "
    "docs/access.md."
)
_END_SECONDS = 20.0


class RecoverCommand:
    """Starts a store without Kafka, scheduler and automatic restore, lets it recover the database, and ends it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        service = f"recover-{os.getpid()}-{secrets.token_hex(4)}"
        recovering = dataclasses.replace(settings, auto_recover="true")
        self._spawner = Spawner(recovering, COMMAND, service=service, mode="command")

    def require_sources(self) -> RecoverySources:
        """Return the sources of a recovery. Raises ServiceRunning, DatabasePresent or NothingToRecover."""
        self._require_no_service()
        database, backups = self._settings.database, self._settings.backup_dir
        sources = self._find_sources()
        if not is_lost(database, lambda: sources):
            raise errors.DatabasePresent(
                f"the database {database} exists; nothing was changed",
                hint="start the service; to restore an earlier moment, POST /api/backup/restore",
            )
        if not sources:
            raise errors.NothingToRecover(
                f"{backups} holds neither an archive nor a journal of this installation",
                hint="set BACKUP_DIR to the folder that has them; to restore an archive of another installation, "
                "put it into RESTORE_DIR and start the service",
            )
        return sources

    def run(self, *, with_tokens: bool = False) -> dict[str, Any]:
        """Recover, and return the same as `lastRestore` of health. If it raises, there is still no database.

        with_tokens: then take the tokens in BACKUP_DIR too, whichever installation made them.
        """
        if with_tokens:
            TokenChanges(self._settings).require_adoptable()
        restored = self._recover()
        return {**restored, "notes": [*restored["notes"], *self._take_tokens(with_tokens=with_tokens)]}

    def _recover(self) -> dict[str, Any]:
        note_mount(self._settings)
        client = StoreClient.over(self._spawner)
        try:
            client.ensure()
            restored: dict[str, Any] = self._wait(client)["lastRestore"]
            return restored
        finally:
            client.close()
            if self._spawner.end(self._spawner.service):
                self._spawner.wait_until_gone(_END_SECONDS)

    def _take_tokens(self, *, with_tokens: bool) -> list[str]:
        """Return notes on the tokens in BACKUP_DIR. A failure is one of them: the database is recovered already."""
        tokens = TokenChanges(self._settings)
        if not with_tokens:
            return [_FOREIGN_TOKENS] if tokens.foreign_tokens() else []
        try:
            count = text.counted(tokens.adopt_backups(), "valid token")
        except errors.EventVaultError as error:
            return [f"the tokens in BACKUP_DIR were not taken: {error.message}"]
        return [f"{count} {'was' if count.startswith('1 ') else 'were'} taken from BACKUP_DIR."]

    def _find_sources(self) -> RecoverySources:
        backups = self._settings.backup_dir
        try:
            return find_recovery_sources(Catalogue(backups, installation_of(self._settings)), JournalFolder(backups))
        except OSError as error:
            raise as_answer(f"reading {backups}", error, errors.BackupsUnavailable) from error

    def _wait(self, client: StoreClient) -> dict[str, Any]:
        """Return the store's status once it has recovered. Raises the error that stopped the recovery."""
        while True:
            hello = self._spawner.hello()
            if hello is not None and hello.service != self._spawner.service:
                raise _service_running()
            status = retry_while_store_is_away(client.status)
            state = status["store"]["state"]
            if state == "serving":
                return status
            if state in ("failed", "read_only"):
                problem = status["problems"][0]
                raise errors.from_wire(problem)
            time.sleep(_POLL_SECONDS)

    def _require_no_service(self) -> None:
        """End a store that an earlier command started. Raises ServiceRunning if the store is a service's."""
        hello = self._spawner.hello()
        if hello is not None and hello.mode == "command":
            self._spawner.end("")
            self._spawner.wait_until_gone(_END_SECONDS)
        elif hello is not None or self._spawner.listens():  # a store that is stuck or lacks descriptors says no hello
            raise _service_running()


def _service_running() -> errors.ServiceRunning:
    return errors.ServiceRunning(
        "a service is running on these folders; nothing was changed",
        hint="stop the service, recover, and start it again; or start it with AUTO_RECOVER=true",
    )


@click.command("recover")
@click.option(
    "--with-tokens", is_flag=True, help="Take the tokens in BACKUP_DIR too if another installation made them."
)
@yes_option
@json_option
def recover(*, with_tokens: bool, yes: bool, as_json: bool) -> None:
    """Recover a lost STORAGE_DIR from BACKUP_DIR, up to the last journaled event.

    The service must not run. An existing database is never changed. The tokens of this installation stay as they are.
    """
    with exits.reporting_errors(as_json=as_json):
        settings = current_settings()
        command = RecoverCommand(settings)
        sources = command.require_sources()
    require_answer(yes=yes, as_json=as_json)
    if not yes:
        ask(f"Recover {settings.database} from {sources}?")
    exits.run_and_print(lambda: command.run(with_tokens=with_tokens), _describe, as_json=as_json)


def _describe(recovered: dict[str, Any]) -> str:
    events = f"{text.counted(recovered['events'], 'event')} {'was' if recovered['events'] == 1 else 'were'}"
    first = f"{events} recovered from {recovered['source']} in {recovered['durationMs']} ms."
    last = f"Start the service now. The next event gets sequence number {recovered['events'] + 1}."
    return "\n".join([first, *recovered["notes"], last])
