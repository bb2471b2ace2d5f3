"""Gives a command the store of a service on another machine, as `app.cli.connection` does for this one."""

from __future__ import annotations

import io
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, NoReturn, cast

import click

from app.cli.remote.address import TOKEN, TOKEN_FILE, parse, tls_of, token_of
from app.cli.remote.jobs import RemoteJobs
from app.cli.remote.store import RemoteStore
from app.cli.remote.tokens import RemoteTokens
from app.cli.remote.transport import Transport
from eventvault.audit.deeds import Deed, Deeds
from eventvault.backups.entry import BackupEntry
from eventvault.operations.caller import SHELL

_COPY_BYTES = 2**20
LARGEST_BODY = 32 * 2**20
"""The default of MAX_BODY_BYTES."""


class RemoteService:
    """A service on another machine. authority: a file of certificates to trust; None: those of the system.

    tokens: the environment variables that may have its token. service: as for `parse`.
    """

    is_here = False

    def __init__(
        self, url: str, *, insecure: bool, authority: Path | None, tokens: Sequence[str] = (TOKEN, TOKEN_FILE),
        service: str = "",
    ) -> None:  # fmt: skip
        self._address = parse(url, insecure=insecure, service=service)
        self._authority = authority
        self._tokens = tokens

    def close(self) -> None:
        if "store" in vars(self):
            self.store.close()

    @cached_property
    def store(self) -> RemoteStore:
        """The store. Raises UsageError for a token or an authority that cannot be used."""
        tls = tls_of(self._address, self._authority)
        return RemoteStore.over(Transport(self._address, token_of(names=self._tokens), tls))

    @cached_property
    def jobs(self) -> RemoteJobs:
        return RemoteJobs.over(self.store)

    @property
    def tokens(self) -> RemoteTokens:
        return RemoteTokens(self.store)

    @property
    def imports_folder(self) -> Path:
        """The folder in which imports note how far they came: one of the user."""
        state = os.environ.get("XDG_STATE_HOME", "")
        return (Path(state) if state.startswith("/") else Path.home() / ".local" / "state") / "eventvault" / "imports"

    @property
    def max_body_bytes(self) -> int:
        """The most bytes of an event; the service may allow less."""
        return LARGEST_BODY

    @property
    def settings(self) -> NoReturn:
        """Raise UsageError: the settings and folders are those of the other machine."""
        path = click.get_current_context().command_path.partition(" ")[2]
        raise click.UsageError(
            f"{path} works on the folders of the service: run it on its machine, without --url and EVENTVAULT_URL"
        )

    prepared_settings = settings

    @contextmanager
    def open_backup(self, name: str) -> Iterator[BinaryIO]:
        """Open an archive for reading. Raises BackupNotFound."""
        with self.store.download(name) as content:
            yield cast(BinaryIO, content)

    @contextmanager
    def exporting(self, target: str) -> Iterator[Deed]:
        """Yield a deed that is not recorded here: the service records what it sends."""
        yield Deeds().begin("export", SHELL, target)

    def adopt(self, path: str, name: str, sent: Callable[[int], None]) -> BackupEntry:
        """Send an archive, which the service checks and adds as `name`. sent: called with the bytes sent so far."""
        return self.store.adopt_upload(path, name, sent)

    @contextmanager
    def stage_upload(self, source: BinaryIO) -> Iterator[str]:
        """Yield the path of an archive for `adopt_upload`, which sends it. A pipe is copied into a file first."""
        if _is_file(source):
            yield str(source.name)
            return
        with tempfile.NamedTemporaryFile(prefix="eventvault-upload-") as file:
            shutil.copyfileobj(source, file, _COPY_BYTES)
            file.flush()
            yield file.name


def _is_file(source: BinaryIO) -> bool:
    try:
        return stat.S_ISREG(Path(source.name).stat().st_mode)
    except (AttributeError, TypeError, OSError, io.UnsupportedOperation):
        return False
