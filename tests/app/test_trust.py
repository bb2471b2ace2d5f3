"""`flask backup trust`, in this process: what is trusted, and how that is said."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from eventvault import data_folders
from eventvault.backups import trust as trust_module
from eventvault.backups.heads import ArchiveHeads
from eventvault.backups.installation_key import ensure_key
from eventvault.backups.trust import TrustList
from eventvault.errors import BackupsUnavailable
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests.command_line import in_process
from tests.restoring import drafts, flip, forge_archive, ids, make_foreign_archive, unreadable
from tests.shown import blocks
from tests.stores import running_service

pytestmark = pytest.mark.slow

Trust = Callable[..., Result]


@pytest.fixture
def service(settings: Settings) -> Iterator[StoreService]:
    with running_service(settings) as service:
        yield service


@pytest.fixture
def elsewhere(settings_with: Callable[..., Settings], tmp_path: Path) -> Settings:
    folders = {name: str(tmp_path / "elsewhere" / name) for name in ("STORAGE_DIR", "BACKUP_DIR", "RESTORE_DIR")}
    settings = settings_with(folders)
    with running_service(settings) as service:
        service.append(drafts(3, "theirs"))
        service.create_backup("theirs")
    return settings


@pytest.fixture
def theirs(elsewhere: Settings, settings: Settings, service: StoreService) -> str:
    """The name of an archive of another installation, copied into ours."""
    (archive,) = elsewhere.backup_dir.glob("*.tar.gz")
    shutil.copy(archive, settings.backup_dir)
    return archive.name


@pytest.fixture
def trust(settings: Settings, service: StoreService) -> Trust:
    return partial(in_process(settings, service), "backup", "trust")


def told(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    told: dict[str, Any] = json.loads(result.stdout)
    return told


def proven(service: StoreService, name: str) -> bool:
    return service.catalogue.entry(name).origin_proven


def test_a_key_that_is_trusted_proves_the_archives_of_its_installation_until_it_is_removed(
    service: StoreService, theirs: str, elsewhere: Settings, trust: Trust
) -> None:
    key = elsewhere.backup_dir / data_folders.INSTALLATION_KEY
    assert not proven(service, theirs)
    added = told(trust(str(key), "--json"))["trusted"]
    assert proven(service, theirs)
    assert service.catalogue.entry(theirs).origin == "found"
    assert (added["kind"], added["installation"]) == ("key", service.catalogue.entry(theirs).installation)
    assert told(trust("--list", "--json"))["trusted"] == [added]
    assert ensure_key(elsewhere).hex() not in trust("--list", "--json").output + trust("--list").output

    service.restore(theirs)
    assert ids(service) == ["theirs-0", "theirs-1", "theirs-2"]
    assert told(trust("--remove", added["id"][:4], "--json"))["removed"] == added
    assert not proven(service, theirs)
    assert trust("--list").stdout == "Nothing is trusted but this installation's own archives.\n"


def test_one_archive_is_trusted_by_its_name_its_path_or_its_digest(
    service: StoreService, theirs: str, settings: Settings, elsewhere: Settings, trust: Trust
) -> None:
    digest = service.verify_backup(theirs).digest or ""
    (original,) = elsewhere.backup_dir.glob("*.tar.gz")
    forged = forge_archive(original, settings.backup_dir / "forged.tar.gz", 3)
    for what in (theirs, str(original), digest):
        added = told(trust(what, "--json"))["trusted"]
        assert (added["id"], added["kind"]) == (digest, "archive")
        assert proven(service, theirs)
        assert not proven(service, forged.name)
        told(trust("--remove", digest, "--json"))
        assert not proven(service, theirs)


def test_a_root_is_trusted_without_its_prefix_too(service: StoreService, theirs: str, trust: Trust) -> None:
    """`b3sum` prints it so, and it has as many digits as a SHA-256."""
    root = (service.verify_backup(theirs).digest or "").removeprefix("blake3:")
    for what, removed in ((root, root), (root, f"blake3:{root}"), (f"blake3:{root}", root[:9])):
        told(trust(what, "--json"))
        assert proven(service, theirs)
        told(trust("--remove", removed, "--json"))
        assert not proven(service, theirs)
    told(trust(root, "--json"))
    told(trust(f"blake3:{root}", "--json"))
    assert len(told(trust("--list", "--json"))["trusted"]) == 1
    told(trust("--remove", root, "--json"))
    assert told(trust("--list", "--json"))["trusted"] == []


def test_commands_at_the_same_time_lose_nothing(settings: Settings) -> None:
    digests = [f"blake3:{number:064x}" for number in range(24)]
    with ThreadPoolExecutor(8) as commands:
        list(commands.map(lambda digest: TrustList(settings).add_archive(digest), digests))
    assert sorted(entry.id for entry in TrustList(settings).entries()) == digests
    with ThreadPoolExecutor(8) as commands:
        list(commands.map(lambda digest: TrustList(settings).remove(digest), digests[::2]))
    assert sorted(entry.id for entry in TrustList(settings).entries()) == digests[1::2]


def test_a_lock_that_another_program_holds_is_not_waited_for_without_end(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.storage_dir.mkdir(parents=True)
    handle = os.open(settings.storage_dir, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    monkeypatch.setattr(trust_module, "LOCK_SECONDS", 0.05)
    try:
        with pytest.raises(BackupsUnavailable, match="another program holds a lock on STORAGE_DIR"):
            TrustList(settings).add_archive("1" * 64)
    finally:
        os.close(handle)
    assert TrustList(settings).add_archive("1" * 64).id == "1" * 64


def test_a_start_does_not_go_by_an_archive_that_is_trusted_no_more(
    service: StoreService, theirs: str, settings: Settings, trust: Trust
) -> None:
    heads = ArchiveHeads(settings.backup_dir, service.catalogue)
    digest = service.verify_backup(theirs).digest or ""
    assert heads.by_generation() == {}
    told(trust(digest, "--json"))
    heads.entries()
    assert [head.archive for head in heads.by_generation().values()] == [theirs]
    told(trust("--remove", digest, "--json"))
    assert heads.by_generation() == {}


def test_what_is_said_names_whose_archives_are_trusted(
    elsewhere: Settings, trust: Trust, theirs: str, tmp_path: Path
) -> None:
    installation = (elsewhere.backup_dir / data_folders.INSTALLATION).read_text()
    key = elsewhere.backup_dir / data_folders.INSTALLATION_KEY
    alone = shutil.copy(key, tmp_path / "key")
    assert trust(str(key)).stdout == (
        f"Archives sealed by installation {installation} are restored as they are from now on.\n"
    )
    assert "1 other key is trusted" not in trust(str(alone)).stdout
    assert trust(theirs).stdout == "This is proven already and needs no trust.\n"
    row = trust("--list").stdout.splitlines()[1]
    assert row.endswith(f"Archives sealed with the key {row.split()[0]}")


def test_this_installations_own_key_and_archives_need_no_trust(
    service: StoreService, settings: Settings, trust: Trust
) -> None:
    service.append(drafts(1))
    own = service.create_backup().backup.name
    for what in (own, str(settings.backup_dir / data_folders.INSTALLATION_KEY)):
        assert trust(what).stdout == "This is proven already and needs no trust.\n"
    assert told(trust("--list", "--json"))["trusted"] == []


def test_what_cannot_be_trusted_is_refused_and_nothing_changes(
    service: StoreService, settings: Settings, theirs: str, tmp_path: Path, trust: Trust
) -> None:
    foreign = make_foreign_archive(settings.backup_dir / "node.tar.gz")
    (tmp_path / "text").write_text("no key")
    damaged = shutil.copy(settings.backup_dir / theirs, tmp_path / "damaged.tar.gz")
    flip(damaged, 700)
    for what, status in (
        ("nothing", 3), (foreign.name, 5), (str(tmp_path / "text"), 5), (str(damaged), 5), ("blake3:123", 3),
        (str(tmp_path), 3),
    ):  # fmt: skip
        refused = trust(what, "--json")
        assert (refused.exit_code, json.loads(refused.stdout)["success"]) == (status, False), what
    assert trust("--remove", "123").exit_code == 3
    assert trust("--remove", "").exit_code == 3
    for usage in ((), ("a", "--list"), ("--list", "--renew")):
        assert trust(*usage).exit_code == 2
    assert told(trust("--list", "--json"))["trusted"] == []


def test_a_beginning_that_several_ids_have_removes_none(trust: Trust) -> None:
    for digit in "12":
        told(trust("blake3:" + digit * 64, "--json"))
    assert trust("--remove", "blake3:").exit_code == 5
    assert told(trust("--remove", "blake3:1", "--json"))["removed"]["id"] == "blake3:" + "1" * 64


def test_a_new_key_proves_new_archives_and_the_catalogue_the_old_ones(
    service: StoreService, settings: Settings, trust: Trust
) -> None:
    service.append(drafts(1))
    names = [service.create_backup().backup.name]
    old = ensure_key(settings)
    copied_in = forge_archive(settings.backup_dir / names[0], settings.backup_dir / "leaked.tar.gz", 2, key=old)
    moved = copied_in.rename(settings.storage_dir / copied_in.name)
    (settings.backup_dir / data_folders.CATALOGUE).unlink()

    refused = trust("--renew", "--json")
    assert (refused.exit_code, ensure_key(settings)) == (5, old)
    assert told(trust("--renew", "--yes", "--json")) == {"success": True, "renewed": True, "archives": 1}
    new = ensure_key(settings)
    assert new != old
    shutil.copy(moved, copied_in)
    service.append(drafts(1, "later"))
    names.append(service.create_backup().backup.name)

    assert [proven(service, name) for name in (*names, copied_in.name)] == [True, True, False]
    assert {entry.origin for entry in service.list_backups() if entry.name in names} == {"created"}
    replaced = settings.storage_dir / ".installation.key.replaced"
    assert (replaced.stat().st_mode & 0o777, old.hex() in replaced.read_text()) == (0o600, True)


def test_a_list_of_what_is_trusted_that_is_damaged_trusts_nothing_and_health_says_so(
    service: StoreService, settings: Settings, theirs: str, elsewhere: Settings, trust: Trust
) -> None:
    told(trust(str(elsewhere.backup_dir / data_folders.INSTALLATION_KEY), "--json"))
    path = settings.storage_dir / data_folders.TRUSTED
    assert path.stat().st_mode & 0o777 == 0o600
    flip(path, 120)
    assert not proven(service, theirs)
    (problem,) = service.status()["problems"]
    assert problem["code"] == "trust_damaged"
    path.with_name(f"{path.name}.damaged").unlink()
    assert service.status()["problems"] == []


def test_a_list_that_cannot_be_read_now_trusts_nothing_and_is_not_replaced(
    service: StoreService, settings: Settings, theirs: str, elsewhere: Settings, trust: Trust
) -> None:
    key = str(elsewhere.backup_dir / data_folders.INSTALLATION_KEY)
    told(trust(key, "--json"))
    path = settings.storage_dir / data_folders.TRUSTED
    with unreadable(path):
        assert not proven(service, theirs)
        assert [problem["code"] for problem in service.status()["problems"]] == ["trust_unreadable"]
        assert trust("--list", "--json").exit_code == 6
        assert trust("blake3:" + "1" * 64, "--json").exit_code == 6
    assert proven(service, theirs)
    assert service.status()["problems"] == []


def test_the_page_shows_commands_that_work(
    service: StoreService, theirs: str, elsewhere: Settings, settings: Settings, trust: Trust
) -> None:
    """docs/trust.md"""
    lines = [line for each in blocks("docs/trust.md") for line in each.text.splitlines() if line.startswith("flask")]
    assert len(lines) == 6
    ours = ensure_key(settings)
    for line in lines:
        known = json.loads(trust("--list", "--json").stdout)["trusted"]
        there = {
            "../old-server/backups/.installation.key": str(elsewhere.backup_dir / data_folders.INSTALLATION_KEY),
            "backup_2024-12-27_120000.tar.gz": theirs,
            "blake3:5e1f…": service.verify_backup(theirs).digest or "",
            "93c1": known[0]["id"][:4] if known else "",
        }
        words = [there.get(word, word) for word in shlex.split(line, comments=True)[3:]]
        done = trust(*words, *(["--yes"] if "--renew" in words else []))
        assert done.exit_code == 0, (line, done.output)
    assert ensure_key(settings) != ours
