"""Which archives were made here: the catalogue has their checksum, or the seal fits the installation's key."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
import pytest

from eventvault import data_folders
from eventvault.archive import reader, seal
from eventvault.archive.proof import Trust
from eventvault.archive.seal import SealedRoot
from eventvault.backups.installation_key import ensure_key
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests import format_1, format_2
from tests.eventvault.archive_folder import ANOTHER_KEY, FIRST, KEY, ROOT, Folder, manifest
from tests.restoring import drafts
from tests.stores import running_service


def sealed_with(key: bytes) -> SealedRoot:
    return SealedRoot(ROOT.hex(), seal.seal_root(key, ROOT).hex())


def proven(service: StoreService) -> dict[str, bool]:
    return {entry.name: entry.origin_proven for entry in service.list_backups()}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "backups")


@pytest.fixture
def made(settings: Settings) -> Path:
    """The archive of a service that has ended."""
    with running_service(settings) as service:
        service.append(drafts(3))
        return Path(service.create_backup().backup.path)


@pytest.mark.slow
def test_a_backup_is_proven_from_its_making_on(settings: Settings) -> None:
    with running_service(settings) as service:
        service.append(drafts(3))
        entry = service.create_backup().backup
        assert entry.origin_proven
        assert service.verify_backup(entry.name).origin_proven
        assert proven(service) == {entry.name: True}


@pytest.mark.slow
def test_the_seal_proves_a_backup_without_the_catalogue(settings: Settings, made: Path) -> None:
    (settings.backup_dir / data_folders.CATALOGUE).unlink()
    with running_service(settings) as service:
        assert proven(service) == {made.name: True}


@pytest.mark.slow
def test_the_folder_carried_to_a_new_machine_proves_its_backups(
    settings_with: Callable[..., Settings], settings: Settings, made: Path, tmp_path: Path
) -> None:
    elsewhere = settings_with(
        {"STORAGE_DIR": str(tmp_path / "s"), "BACKUP_DIR": str(tmp_path / "b"), "AUTO_RECOVER": "true"}
    )
    shutil.copytree(settings.backup_dir, elsewhere.backup_dir)
    (elsewhere.backup_dir / data_folders.CATALOGUE).unlink()
    with running_service(elsewhere) as service:
        assert proven(service) == {made.name: True}


@pytest.mark.slow
def test_an_archive_of_another_installation_is_not_proven_whatever_its_manifest_says(
    settings_with: Callable[..., Settings], made: Path, tmp_path: Path
) -> None:
    elsewhere = settings_with({"STORAGE_DIR": str(tmp_path / "s"), "BACKUP_DIR": str(tmp_path / "b")})
    with running_service(elsewhere) as service:
        shutil.copy(made, elsewhere.backup_dir)
        assert proven(service) == {made.name: False}
        assert not service.verify_backup(made.name).origin_proven
        assert proven(service) == {made.name: False}


@pytest.mark.slow
def test_our_archive_that_somebody_changed_and_sealed_again_is_not_proven(
    settings: Settings, made: Path, tmp_path: Path
) -> None:
    unpacked = tmp_path / "unpacked"
    about = reader.unpack(made, unpacked).manifest
    (unpacked / data_folders.DATABASE / "000099.log").write_bytes(b"")
    made.unlink()
    own_seal = partial(seal.seal_root, ANOTHER_KEY)
    format_2.write_archive(made, unpacked / data_folders.DATABASE, about, seal=own_seal)
    with running_service(settings) as service:
        assert proven(service) == {made.name: False}


@pytest.mark.slow
def test_rotation_leaves_an_archive_that_another_key_proved_for_a_while(
    settings_with: Callable[..., Settings], made: Path, tmp_path: Path
) -> None:
    unpacked = tmp_path / "unpacked"
    about = msgspec.structs.replace(reader.unpack(made, unpacked).manifest, name="evil.tar.gz")
    elsewhere = settings_with({"STORAGE_DIR": str(tmp_path / "s"), "BACKUP_DIR": str(tmp_path / "b")})
    own_seal = partial(seal.seal_root, ensure_key(elsewhere))
    settings = settings_with({"MAX_BACKUPS": "1"})
    evil = settings.backup_dir / "evil.tar.gz"
    format_2.write_archive(evil, unpacked / data_folders.DATABASE, about, seal=own_seal)
    key_files = [folder / data_folders.INSTALLATION_KEY for folder in (settings.storage_dir, settings.backup_dir)]
    keys = [path.read_bytes() for path in key_files]
    for path in key_files:
        shutil.copy(elsewhere.storage_dir / data_folders.INSTALLATION_KEY, path)
    with running_service(settings) as service:
        assert service.catalogue.entry(evil.name).origin_proven
    for path, key in zip(key_files, keys, strict=True):
        path.write_bytes(key)
    with running_service(settings) as service:
        for _ in range(2):
            service.create_backup("later")  # within the same second it could have the name of the first one
        assert evil.exists()
        assert not made.exists()
        assert len(service.list_backups()) == 2


@pytest.mark.slow
def test_an_archive_that_was_moved_on_with_its_seal_stays_proven(settings: Settings, made: Path) -> None:
    made.rename(made.with_name("renamed.tar.gz"))
    with running_service(settings) as service:
        assert proven(service) == {"renamed.tar.gz": True}


@pytest.mark.slow
def test_nothing_is_proven_by_a_seal_while_the_key_cannot_be_read(settings: Settings, made: Path) -> None:
    (settings.backup_dir / data_folders.CATALOGUE).unlink()
    key = settings.storage_dir / data_folders.INSTALLATION_KEY
    with running_service(settings) as service:
        assert proven(service) == {made.name: True}
        key.rename(key.with_name("moved"))
        key.mkdir()
        assert proven(service) == {made.name: False}
        key.rmdir()
        assert proven(service) == {made.name: True}


def test_only_the_key_of_this_installation_proves(folder: Folder) -> None:
    folder.put("a.tar.gz")
    folder.seal = sealed_with(KEY)
    for key, proof in ((None, False), (ANOTHER_KEY, False), (KEY, True)):
        folder.key = key
        assert folder.catalogue().entry("a.tar.gz").origin_proven is proof


def test_a_damaged_archive_is_not_proven_until_it_was_verified(folder: Folder) -> None:
    folder.put("a.tar.gz")
    catalogue = folder.catalogue()
    catalogue.record_created("a.tar.gz", digest="blake3:1", verified=9)
    assert not catalogue.record_problem("a.tar.gz", "one byte is wrong").origin_proven
    assert catalogue.record_verified("a.tar.gz", digest="blake3:1", verified=10).origin_proven


def test_other_bytes_than_those_that_were_made_here_are_not_proven(folder: Folder) -> None:
    path = folder.put("a.tar.gz")
    catalogue = folder.catalogue()
    catalogue.record_created("a.tar.gz", digest="blake3:1", verified=9)
    assert not catalogue.record_verified("a.tar.gz", digest="blake3:2", verified=10).origin_proven
    catalogue.record_created("a.tar.gz", digest="blake3:1", verified=9)
    os.utime(path)
    assert not catalogue.entry("a.tar.gz").origin_proven
    assert not catalogue.record_verified("a.tar.gz", digest="blake3:2", verified=10).origin_proven


@pytest.mark.parametrize("change", ["touched", "copied", "damaged and repaired"])
def test_the_very_bytes_that_were_made_here_are_proven_again_once_they_were_read(folder: Folder, change: str) -> None:
    """An archive of format 1 has no seal."""
    path = folder.put("a.tar.gz")
    catalogue = folder.catalogue()
    catalogue.record_created("a.tar.gz", sha256="5" * 64, verified=9)
    content = path.read_bytes()
    if change == "touched":
        os.utime(path)
    elif change == "copied":
        path.rename(folder.path / "moved")
        path.write_bytes(content)
    else:
        path.write_bytes(content[:-5])
        assert catalogue.entry("a.tar.gz").problem
        catalogue.set_pinned("a.tar.gz", pinned=True)
        path.write_bytes(content)

    entry = catalogue.entry("a.tar.gz")
    assert (entry.origin, entry.origin_proven) == ("found", False)
    assert not catalogue.record_verified("a.tar.gz", sha256="6" * 64, verified=10).origin_proven
    entry = catalogue.record_verified("a.tar.gz", sha256="5" * 64, verified=11)
    assert (entry.origin, entry.origin_proven) == ("created", True)


def test_an_archive_counts_as_made_here_only_under_the_name_that_it_was_made_under(folder: Folder) -> None:
    folder.put("a.tar.gz")
    folder.put("copy.tar.gz", name="a.tar.gz")
    folder.put("uploaded.tar.gz")
    folder.key = KEY
    folder.seal_with(KEY)
    folder.catalogue().record_uploaded("uploaded.tar.gz", digest=f"blake3:{ROOT.hex()}")
    entries = folder.catalogue().entries()
    assert {entry.name: (entry.origin, entry.origin_proven) for entry in entries} == {
        "a.tar.gz": ("created", True), "copy.tar.gz": ("found", True), "uploaded.tar.gz": ("uploaded", True),
    }  # fmt: skip


def test_an_archive_counts_again_once_the_key_can_be_read_again(folder: Folder) -> None:
    folder.put("a.tar.gz")
    folder.seal_with(KEY)
    catalogue = folder.catalogue()
    assert (catalogue.entries()[0].origin, catalogue.entries()[0].origin_proven) == ("found", False)
    folder.key = KEY
    assert (catalogue.entries()[0].origin, catalogue.entries()[0].origin_proven) == ("created", True)
    folder.key = None
    assert (catalogue.entries()[0].origin, catalogue.entries()[0].origin_proven) == ("created", False)


def test_trust_proves_an_archive_and_does_not_make_it_count_as_made_here(folder: Folder) -> None:
    for name, sealed_by, trust in (
        ("a.tar.gz", ANOTHER_KEY, Trust(keys=(ANOTHER_KEY.hex(),))),
        ("b.tar.gz", ANOTHER_KEY, Trust(checksums=frozenset([f"blake3:{ROOT.hex()}"]))),
        ("c.tar.gz", None, Trust(checksums=frozenset(["5" * 64]))),
    ):
        folder.put(name, installation="elsewhere")
        folder.seal = None if sealed_by is None else sealed_with(sealed_by)
        folder.key, folder.trust = KEY, Trust()
        catalogue = folder.catalogue()
        if sealed_by is None:
            catalogue.record_uploaded(name, sha256="5" * 64)
        assert not catalogue.entry(name).origin_proven
        folder.trust = trust
        entry = catalogue.entry(name)
        assert (entry.origin_proven, entry.trusted, entry.is_ours) == (True, True, False)
        assert entry.origin != "created"


def test_an_upload_is_proven_by_its_seal_alone(folder: Folder) -> None:
    folder.put("a.tar.gz")
    assert not folder.catalogue().record_uploaded("a.tar.gz", digest="blake3:1").origin_proven
    folder.put("b.tar.gz")
    folder.seal, folder.key = sealed_with(KEY), KEY
    assert folder.catalogue().record_uploaded("b.tar.gz", digest=f"blake3:{ROOT.hex()}").origin_proven


def test_a_seal_proves_nothing_of_bytes_with_another_root(folder: Folder) -> None:
    folder.put("a.tar.gz")
    folder.seal, folder.key = sealed_with(KEY), KEY
    assert folder.catalogue().entry("a.tar.gz").origin_proven
    assert not folder.catalogue().record_verified("a.tar.gz", digest="blake3:2", verified=10).origin_proven


def test_the_catalogue_of_another_installation_proves_nothing_here(folder: Folder) -> None:
    folder.put("a.tar.gz")
    assert folder.catalogue().record_created("a.tar.gz", digest="blake3:1", verified=9).origin_proven
    assert not folder.catalogue("elsewhere").entry("a.tar.gz").origin_proven


def test_the_catalogue_of_0_1_0_proves_what_it_says_was_created(folder: Folder) -> None:
    for name in ("created.tar.gz", "uploaded.tar.gz"):
        folder.put(name)
    catalogue = folder.catalogue()
    catalogue.record_created("created.tar.gz", sha256="5" * 64, verified=9)
    catalogue.record_uploaded("uploaded.tar.gz", sha256="6" * 64, verified=9, checked="records")
    as_0_1_0_writes_it(folder)

    entries = {entry.name: entry for entry in folder.catalogue().entries()}
    assert {name: (entry.origin_proven, entry.verified) for name, entry in entries.items()} == {
        "created.tar.gz": (True, 9), "uploaded.tar.gz": (False, 9),
    }  # fmt: skip
    folder.catalogue().set_pinned("created.tar.gz", pinned=True)
    assert folder.catalogue().entry("created.tar.gz").origin_proven


def test_a_seal_that_0_1_0_forgot_is_read_again(folder: Folder) -> None:
    folder.put("a.tar.gz")
    folder.seal, folder.key = sealed_with(KEY), KEY
    catalogue = folder.catalogue()
    catalogue.record_created("a.tar.gz", digest="blake3:1", verified=9)
    catalogue.set_pinned("a.tar.gz", pinned=True)
    as_0_1_0_writes_it(folder)

    entry = folder.catalogue().entry("a.tar.gz")
    assert (entry.origin_proven, entry.pinned, entry.problem) == (True, True, None)


def test_an_upload_that_0_1_0_had_in_its_catalogue_stays_an_upload(folder: Folder) -> None:
    folder.put("a.tar.gz")
    folder.catalogue().record_uploaded("a.tar.gz", digest="blake3:1", verified=9)
    as_0_1_0_writes_it(folder)

    assert folder.catalogue().entry("a.tar.gz").origin == "uploaded"


def as_0_1_0_writes_it(folder: Folder) -> None:
    """Drop from the catalogue what 0.1.0 does not know."""
    path = folder.path / data_folders.CATALOGUE
    document = msgspec.json.decode(path.read_bytes())
    del document["checksum"]
    for record in document["archives"].values():
        for member in ("digest", "sealed", "made"):
            record.pop(member, None)
    path.write_bytes(msgspec.json.encode(document))


@pytest.mark.slow
def test_an_archive_of_format_1_that_was_not_made_here_is_not_proven(settings: Settings, tmp_path: Path) -> None:
    staging = tmp_path / "staging"
    staging.mkdir()
    (staging / "CURRENT").write_text("MANIFEST-000002\n")
    with running_service(settings) as service:
        born = msgspec.structs.replace(FIRST, id="1" * 16)
        about = manifest("a.tar.gz", installation=service.catalogue.installation, generation=born, generations=[born])
        format_1.write_archive(settings.backup_dir / "a.tar.gz", staging, about)
        (entry,) = service.list_backups()
        assert (entry.origin, entry.origin_proven) == ("found", False)
        assert service.status()["backup"]["notProven"] == 1


@pytest.mark.slow
def test_the_chore_that_writes_an_archive_gets_the_key_as_an_argument(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    with running_service(settings) as service:
        service.append(drafts(1))
        run = service.chores.run

        def watched(name: str, **arguments: object) -> object:
            started.append(name)
            assert arguments["key"] == ensure_key(settings).hex()
            return run(name, **arguments)

        monkeypatch.setattr(service.chores, "run", watched)
        service.create_backup()
    assert started == ["write_archive"]
