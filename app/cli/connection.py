"""Gives a command the settings and a store: the store of the running service, or a new one for this command.

Commands reach both through this module alone, so that they work alike wherever the store is.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from app.cli.meta import CA_FILE, INSECURE, URL
from app.cli.program import program
from app.store_retry import retry_while_store_is_away
from eventvault import data_folders
from eventvault.errors import Forbidden, ServiceRunning

if TYPE_CHECKING:  # at a Tab, the modules of commands are imported for their options alone
    from app.cli.remote.service import RemoteService
    from eventvault.access.changes import TokenChanges
    from eventvault.audit.deeds import Deed
    from eventvault.backups.entry import BackupEntry
    from eventvault.jobs.port import Jobs
    from eventvault.settings import Settings
    from eventvault.store.ports.store import Store
    from eventvault.store.process.spawn import Spawner
    from eventvault.store.rpc.wire import StoreHello

_KEY = "eventvault.connection"
_END_SECONDS = 20.0
_COPY_BYTES = 2**20
_JOBS_SECONDS = 5.0
"""Seconds that a command waits for the dispatcher of jobs: without a service there is none."""


def current_store() -> Store:
    """Return the store. Raises InvalidSettings, Forbidden, or ServiceRunning for a store of another version."""
    return current_connection().store


def current_jobs() -> Jobs:
    """Return the port to the dispatcher. Raises as `current_store` does."""
    return current_connection().jobs


def current_settings() -> Settings:
    """Return the settings, for a command that works on the folders itself. Raises InvalidSettings or Forbidden."""
    return current_connection().prepared_settings


def current_connection(context: click.Context | None = None) -> Connection | RemoteService:
    """Return the connection of the current command, the same one at each call. Raises UsageError for a bad address."""
    context = context or click.get_current_context()
    connection = context.find_object(Connection) or context.meta.get(_KEY)
    if connection is None:
        connection = context.meta[_KEY] = _connect(context.meta)
        context.find_root().call_on_close(connection.close)
    return connection


def settings_of_caller() -> Settings | None:
    """Return the settings that a caller in this process chose; None if they are those of the environment.

    Raises UsageError if the service is on another machine.
    """
    connection = current_connection()
    return connection.__dict__.get("settings") if connection.is_here else connection.settings


def _connect(options: Mapping[str, Any]) -> Connection | RemoteService:
    """Return a new connection. options: the values of `--url` and the options that belong to it, by their keys."""
    url = options.get(URL, os.environ.get("EVENTVAULT_URL", "")).strip()
    if not url:
        return Connection()
    from app.cli.remote.service import RemoteService

    authority = options.get(CA_FILE)
    insecure = bool(options.get(INSECURE))
    return RemoteService(url, insecure=insecure, authority=None if authority is None else Path(authority))


def other_store(url: str, *, insecure: bool) -> Store:
    """Return the store of a second service. Raises UsageError for a bad address or token.

    insecure: plain HTTP is allowed to this service; `--insecure` is about the first one.

    The second service never gets the token of the first one. If the first one is on this machine, it needs no token:
    then the token of the environment is for the second one.
    """
    from app.cli.remote.address import OTHER_TOKEN, TOKEN, TOKEN_FILE
    from app.cli.remote.service import RemoteService

    context = click.get_current_context()
    names = (OTHER_TOKEN,) if not current_connection().is_here else (OTHER_TOKEN, TOKEN, TOKEN_FILE)
    authority = context.meta.get(CA_FILE)
    service = RemoteService(
        url, insecure=insecure, authority=None if authority is None else Path(authority), tokens=names, service="to-"
    )
    context.find_root().call_on_close(service.close)
    return service.store


class Connection:
    """Reads the settings and reaches the store when a command first asks for them, so that `--help` does neither.

    settings, store, jobs: used instead of those of the environment.
    """

    is_here = True

    def close(self) -> None:
        """Do nothing: connections to a store of this machine end with the process."""

    def __init__(self, settings: Settings | None = None, store: Store | None = None, jobs: Jobs | None = None) -> None:
        if settings is not None:
            self.settings = self.prepared_settings = settings
        if store is not None:
            self.store = store
        if jobs is not None:
            self.jobs = jobs

    @cached_property
    def settings(self) -> Settings:
        """The settings. From then on secrets are not in the environment that /proc shows of this process."""
        from app.cli.owner import become_owner
        from eventvault import environment, file_modes, folder_abilities
        from eventvault.settings import SECRETS, load

        settings = load()
        environment.hide(SECRETS)
        become_owner(settings)
        check_user(settings)
        file_modes.restrict_new_files(settings)
        folder_abilities.ensure_temporary_folder(settings)
        return settings

    @cached_property
    def prepared_settings(self) -> Settings:
        """The settings, after their folders were made and checked."""
        from eventvault import folder_abilities

        folder_abilities.prepare_folders(self.settings)
        return self.settings

    @cached_property
    def store(self) -> Store:
        from eventvault.store.rpc import wire
        from eventvault.store.rpc.client import StoreClient

        spawner = spawner_for_commands(self.settings)
        hello = spawner.hello()
        if hello is None:
            spawner.settings = self.prepared_settings
        elif hello.protocol != wire.PROTOCOL:
            _end_other_version(spawner, hello)
        return StoreClient.over(spawner)

    @cached_property
    def jobs(self) -> Jobs:
        """The port to the dispatcher of the service; the audit has what a command changes."""
        from eventvault.audit.deeds import deeds_through
        from eventvault.errors import JobsDisabled
        from eventvault.jobs.audited import audited
        from eventvault.jobs.client import JobsClient

        if not self.settings.jobs_enabled:
            raise JobsDisabled("jobs are switched off", hint="set JOBS_ENABLED=true, and restart the service")
        storage = self.prepared_settings.storage_dir
        deeds = deeds_through(lambda entry: self.store.note_deed(entry), storage)
        return audited(JobsClient.over(storage, patience=_JOBS_SECONDS), deeds)

    @property
    def imports_folder(self) -> Path:
        """The folder in which imports note how far they came."""
        return self.prepared_settings.storage_dir / data_folders.IMPORTS

    @property
    def max_body_bytes(self) -> int:
        """How large an event may be."""
        return self.settings.max_body_bytes

    @property
    def tokens(self) -> TokenChanges:
        from eventvault.access.changes import TokenChanges

        return TokenChanges(self.prepared_settings)

    @contextmanager
    def open_backup(self, name: str) -> Iterator[BinaryIO]:
        """Open an archive for reading; rotation does not remove it meanwhile. Raises BackupNotFound."""
        from eventvault.archive.locks import shared_lock
        from eventvault.backups.audited import deeds_of
        from eventvault.operations.caller import SHELL

        path = Path(retry_while_store_is_away(lambda: self.store.backup_path(name)))
        deeds = deeds_of(self.prepared_settings)
        with shared_lock(path) as handle, os.fdopen(os.dup(handle), "rb") as file, deeds.doing("download", SHELL, name):
            yield file

    @contextmanager
    def exporting(self, target: str) -> Iterator[Deed]:
        """Record an export by this command in the audit. target: the events, by their sequences."""
        from eventvault.audit.deeds import deeds_through
        from eventvault.audit.lines import INTERRUPTED
        from eventvault.operations.caller import SHELL
        from eventvault.store.audited import EXPORT, STREAMED

        deeds = deeds_through(self.store.note_deed, self.prepared_settings.storage_dir)
        deed = deeds.begin(EXPORT, SHELL, target, details={STREAMED: True})
        try:
            yield deed
        except Exception as error:
            deed.fail(error)
            raise
        except BaseException:  # Ctrl-C, or a reader that has seen enough
            deed.end(INTERRUPTED)
            raise
        deed.end()

    def adopt(self, path: str, name: str, sent: Callable[[int], None]) -> BackupEntry:
        """Let the store check the archive that `stage_upload` put there, and add it to the catalogue as `name`."""
        return self.store.adopt_upload(path, name)

    @contextmanager
    def stage_upload(self, source: BinaryIO) -> Iterator[str]:
        """Copy an archive to where the store takes it; yields the path for `adopt_upload`. Raises NoSpace.

        If the store does not take it, the copy is removed.
        """
        from app.backup import upload_file
        from eventvault.backups.installation_folder import check_unchanged

        folder = self.prepared_settings.backup_dir
        check_unchanged(self.prepared_settings)
        with upload_file.temporary_upload(folder) as (path, file):
            shutil.copyfileobj(source, file, _COPY_BYTES)
            file.flush()
            os.fsync(file.fileno())
            with upload_file.hand_over(path) as new_path:
                yield str(new_path)


def spawner_for_commands(settings: Settings) -> Spawner:
    """Return a spawner that starts a store for commands on the first call, if no store runs then."""
    from app.store import COMMAND
    from eventvault.store.process.spawn import Spawner

    service = f"command-{os.getpid()}-{secrets.token_hex(4)}"
    return Spawner(settings, COMMAND, service=service, mode="command", on_started=_report_started_store)


def _report_started_store() -> None:
    click.echo("No service runs: a store was started for this command.", err=True)


def _end_other_version(spawner: Spawner, hello: StoreHello) -> None:
    """End a store that commands of another version started. Raises ServiceRunning if a service started it."""
    if hello.mode == "command":
        spawner.end("")
        spawner.wait_until_gone(_END_SECONDS)
        return
    raise ServiceRunning(
        f"the store that runs is of EventVault {hello.version or 'another version'}, which this command cannot ask; "
        "nothing was changed",
        hint="restart the service, so that both are of one version",
    )


def check_user(settings: Settings) -> None:
    """Raise Forbidden if the store belongs to another user, who alone may ask it."""
    owner = _other_owner(settings.storage_dir)
    if owner is None:
        return
    try:
        name = pwd.getpwuid(owner).pw_name
    except KeyError:
        name = f"'#{owner}'"
    raise Forbidden(
        f"{settings.storage_dir} belongs to user {name}, and only that user may ask its store; nothing was changed",
        hint=f"sudo -u {name} {program()} …, or in a container: docker-compose exec app {program()} …",
    )


def _other_owner(storage: Path) -> int | None:
    """Return the owner of the folder, or of the socket in it, if that is why it cannot be used."""
    for path, needed in ((storage, os.R_OK | os.X_OK), (storage / data_folders.SOCKET, os.R_OK | os.W_OK)):
        try:
            status = path.stat()
        except PermissionError:
            return _first_visible(path).st_uid
        except OSError:
            return None
        if status.st_uid != os.geteuid() and not os.access(path, needed):
            return status.st_uid
    return None


def _first_visible(path: Path) -> os.stat_result:
    """Return the status of the nearest folder above that this user may see."""
    for folder in path.parents:
        with suppress(PermissionError):
            return folder.stat()
    return Path("/").stat()
