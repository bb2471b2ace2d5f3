"""`flask backup trust`: whose archives are restored as they are, besides this installation's own."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from app.cli import exits
from app.cli.connection import current_settings, current_store
from app.cli.options import ask, json_option, require_answer, yes_option
from app.cli.program import program
from app.store_retry import retry_while_store_is_away
from eventvault import clock
from eventvault.backups import names
from eventvault.backups.audited import deeds_of
from eventvault.backups.trust import Trusted, TrustList
from eventvault.errors import ArchiveAlien, BackupNotFound
from eventvault.operations.caller import SHELL
from eventvault.regular_files import open_file
from eventvault.store.ports.store import Store

_CHECKSUM = re.compile("(blake3:)?[0-9a-f]{64}")
_RENEWING = (
    "This makes a new key for this installation. Archives that others have stay sealed with the old one: here they are "
    "then restored by replay, unless you trust them one by one."
)


class TrustCommand:
    def __init__(self) -> None:
        self._settings = current_settings()
        self._list = TrustList(self._settings)
        self._deeds = deeds_of(self._settings)

    def add(self, what: str) -> dict[str, Any]:
        """Trust a key's file, an archive in BACKUP_DIR or elsewhere, or a digest."""
        with self._deeds.doing("trust", SHELL, what, details={"trusted": True}) as deed:
            result = self._add(what)
            deed.results = dict(result)
            return result

    def _add(self, what: str) -> dict[str, Any]:
        path = self._locate(what)
        added: Trusted | None
        if path is None and _CHECKSUM.fullmatch(what):
            added = self._list.add_archive(what)
        elif path is None:
            raise BackupNotFound(
                f"there is neither a file nor a backup {what}",
                hint="name the other installation's .installation.key, an archive, or an archive's digest",
            )
        elif _is_gzip(path):
            added = self._add_archive(path)
        else:
            added = self._list.add_key(path)
        if added is None:
            return {"trusted": None, "otherKeys": 0}
        others = [entry for entry in self._list.entries() if entry.key and entry.id != added.id]
        return {"trusted": _describe_entry(added), "otherKeys": len(others)}

    def list(self) -> dict[str, Any]:
        return {"trusted": [_describe_entry(entry) for entry in self._list.entries()]}

    def remove(self, prefix: str) -> dict[str, Any]:
        with self._deeds.doing("trust", SHELL, prefix, details={"trusted": False}):
            return {"removed": _describe_entry(self._list.remove(prefix))}

    def renew(self) -> dict[str, Any]:
        """Let the store make a new key for this installation."""
        store: Store = current_store()
        return {"renewed": True, "archives": retry_while_store_is_away(store.renew_key)}

    def _locate(self, what: str) -> Path | None:
        in_backups = self._settings.backup_dir / what
        if names.is_name(what) and in_backups.is_file():
            return in_backups
        return Path(what) if Path(what).is_file() else None

    def _add_archive(self, path: Path) -> Trusted | None:
        """Read the archive to its end, then trust it. Returns None if it is proven already."""
        from eventvault.archive import reader  # a key and a digest are trusted without reading an archive

        if reader.kind(path) == "foreign":
            raise ArchiveAlien(
                f"{path} was made by another program, so there is no database of EventVault in it to trust",
                hint="restore it: its records become events",
            )
        if path.parent == self._settings.backup_dir:
            entry = retry_while_store_is_away(lambda: current_store().verify_backup(path.name))
            checksum, installation = entry.checksum, entry.installation
            if entry.origin_proven:
                return None
        else:
            verified = reader.verify(path)
            checksum, installation = verified.checksum, verified.manifest.installation
        assert checksum is not None, "an archive of EventVault that was read has a checksum"
        return self._list.add_archive(checksum, installation=installation, name=path.name)


@click.command("trust")
@click.argument("key_or_archive", required=False)
@click.option("--list", "listing", is_flag=True, help="Show what is trusted.")
@click.option("--remove", metavar="ID", help="Trust this no longer; the id, or its beginning, as --list shows it.")
@click.option("--renew", is_flag=True, help="Make a new key for this installation, if others may have the old one.")
@yes_option
@json_option
def trust(
    *, key_or_archive: str | None, listing: bool, remove: str | None, renew: bool, yes: bool, as_json: bool
) -> None:
    """Trust archives of another installation of yours, so that they are restored as they are.

    KEY_OR_ARCHIVE is the `.installation.key` of the other installation, an archive (a name in BACKUP_DIR or a path), or
    an archive's digest.
    """
    if sum([key_or_archive is not None, listing, remove is not None, renew]) != 1:
        raise click.UsageError("give either a key or an archive, or one of --list, --remove and --renew")
    command = TrustCommand()
    if renew:
        require_answer(yes=yes, as_json=as_json)
    if renew and not yes:
        click.echo(_RENEWING, err=True)
        ask("Make a new key?")
    work: Callable[[], dict[str, Any]]
    if key_or_archive is not None:
        work, describe = (lambda: command.add(key_or_archive)), _describe_added
    elif remove is not None:
        work, describe = (lambda: command.remove(remove)), _describe_removed
    else:
        work, describe = (command.list, _describe_list) if listing else (command.renew, _describe_renewed)
    exits.run_and_print(work, describe, as_json=as_json)


def _is_gzip(path: Path) -> bool:
    try:
        with open_file(path) as file:
            return file.read(2) == b"\x1f\x8b"
    except OSError:
        return False  # reading it as a key says what is wrong


def _describe_entry(entry: Trusted) -> dict[str, Any]:
    """Return the entry without the key, which is a secret."""
    return {
        "id": entry.id,
        "kind": "key" if entry.key else "archive",
        "installation": entry.installation,
        "name": entry.name,
        "since": clock.format_milliseconds(entry.since),
    }


def _name_of(entry: dict[str, Any]) -> str:
    if entry["kind"] == "archive":
        return f"The archive {entry['name'] or entry['id']}"
    if entry["installation"]:
        return f"Archives sealed by installation {entry['installation']}"
    return f"Archives sealed with the key {entry['id']}"


def _describe_added(result: dict[str, Any]) -> str:
    added, others = result["trusted"], result["otherKeys"]
    if added is None:
        return "This is proven already and needs no trust."
    restored = "is restored as it is" if added["kind"] == "archive" else "are restored as they are"
    text = f"{_name_of(added)} {restored} from now on."
    keys = f"{others} other key is" if others == 1 else f"{others} other keys are"
    return f"{text} ({keys} trusted: {program()} backup trust --list)" if others else text


def _describe_list(result: dict[str, Any]) -> str:
    if not result["trusted"]:
        return "Nothing is trusted but this installation's own archives."
    rows = [("ID", "SINCE", "WHAT"), *((entry["id"], entry["since"], _name_of(entry)) for entry in result["trusted"])]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return "\n".join(f"{row[0]:{widths[0]}}  {row[1]:{widths[1]}}  {row[2]}" for row in rows)


def _describe_removed(result: dict[str, Any]) -> str:
    entry = result["removed"]
    return f"{_name_of(entry)} {'is' if entry['kind'] == 'archive' else 'are'} trusted no longer."


def _describe_renewed(result: dict[str, Any]) -> str:
    count = result["archives"]
    archives = "the archive" if count == 1 else f"all {count} archives"
    note = f" The catalogue still proves {archives} in backups/ that the old key proved." if count else ""
    return f"This installation has a new key.{note} The old one is in storage/, and proves nothing any more."
