"""Names that are not UTF-8 in the three folders: the service starts and works, and health shows them escaped."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from eventvault import data_folders, settings
from eventvault.errors import InvalidSettings
from eventvault.settings import Settings
from tests.restoring import drafts, make_archive, make_foreign_database, prefixes
from tests.stores import folders_beneath, running_service

ODD_NAMES = {
    b"sicherung_m\xe4rz.tar.gz": r"sicherung_m\xe4rz.tar.gz",
    b"\xff.tar.gz": r"\xff.tar.gz",
    b"half a character \xc3.tar.gz": r"half a character \xc3.tar.gz",
    b"surrogate \xed\xa0\x80.tar.gz": r"surrogate \xed\xa0\x80.tar.gz",
}
"""Name on the disk → as it is shown."""


def path_of(folder: Path, name: bytes) -> Path:
    return folder / os.fsdecode(name)


@pytest.fixture
def live(settings: Settings) -> Settings:
    """Settings of an installation with two live events; no service runs."""
    with running_service(settings) as service:
        service.append(drafts(2))
    return settings


def problems(service: Any) -> dict[str, str]:
    return {problem["code"]: problem["message"] for problem in service.status()["problems"]}


@pytest.mark.slow
@pytest.mark.parametrize("name", ODD_NAMES)
@pytest.mark.parametrize("content", ["good", "junk"])
def test_a_file_in_restore_is_refused_and_named_and_the_service_starts(
    live: Settings, name: bytes, content: str
) -> None:
    path = path_of(live.restore_dir, name)
    if content == "good":
        make_archive(live.storage_dir.parent / "a.tar.gz").rename(path)
    else:
        path.write_bytes(b"junk")

    for _ in range(2):
        with running_service(live) as service:
            assert prefixes(service) == {"live": 2}
            assert service.append(drafts(1, "live")).results[0].duplicate
            assert ODD_NAMES[name] in problems(service)["restore_refused"]
    assert path.exists()

    path.unlink()
    with running_service(live) as service:
        assert problems(service) == {}


@pytest.mark.slow
def test_a_good_archive_beside_it_is_restored(live: Settings) -> None:
    for name in ODD_NAMES:
        make_archive(live.storage_dir.parent / "a.tar.gz", "odd").rename(path_of(live.restore_dir, name))
    make_archive(live.restore_dir / "good.tar.gz")

    with running_service(live) as service:
        assert prefixes(service) == {"restored": 3}
        assert len([problem for problem in service.status()["problems"] if problem["code"] == "restore_refused"]) == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["\U0001f600.tar.gz", "Gro\u0308sse.tar.gz", "бэкап.tar.gz", "line\nbreak.tar.gz", "n" * 248 + ".tar.gz"]
)
def test_any_name_in_utf8_is_restored(live: Settings, name: str) -> None:
    make_archive(live.storage_dir.parent / "a.tar.gz").rename(live.restore_dir / name)

    with running_service(live) as service:
        assert prefixes(service) == {"restored": 3}
        assert service.status()["lastRestore"]["source"] == name

    assert [path.name for path in (live.restore_dir / "restored").iterdir()] == [name]


@pytest.mark.slow
@pytest.mark.parametrize("make", [lambda path: path.mkdir(), os.mkfifo, lambda path: path.symlink_to("/nowhere")])
def test_what_is_no_regular_file_is_left_alone(live: Settings, make: Callable[[Path], None]) -> None:
    for folder in (live.restore_dir, live.backup_dir):
        make(path_of(folder, b"\xe4.tar.gz"))

    with running_service(live) as service:
        service.create_backup()
        assert "restore_refused" not in problems(service)


@pytest.mark.slow
def test_files_in_backups_are_named_in_health_and_all_else_goes_on(live: Settings) -> None:
    for name in [*ODD_NAMES, b"line\nbreak.tar.gz", b"back\\slash.tar.gz", b"a note \xe4.txt", b".hidden \xe4.tar.gz"]:
        path_of(live.backup_dir, name).write_bytes(b"x")

    with running_service(live) as service:
        made = service.create_backup().backup
        assert [entry.name for entry in service.list_backups()] == [made.name]
        message = problems(service)["backup_name_invalid"]
        assert all(shown in message for shown in (r"sicherung_m\xe4rz.tar.gz is not UTF-8", "and 1 more"))
        assert "note" not in message
        assert "hidden" not in message
        for name in [*ODD_NAMES, b"line\nbreak.tar.gz", b"back\\slash.tar.gz"]:
            path_of(live.backup_dir, name).unlink()
        assert problems(service) == {}


@pytest.mark.slow
def test_what_a_list_leaves_out_is_in_the_next_answer_of_health(live: Settings) -> None:
    with running_service(live) as service:
        for name in list(ODD_NAMES)[:3]:
            assert "backup_name_invalid" not in problems(service)
            path_of(live.backup_dir, name).write_bytes(b"x")
            service.list_backups()
            assert "backup_name_invalid" in problems(service)
            path_of(live.backup_dir, name).unlink()
            service.list_backups()


@pytest.mark.slow
def test_files_and_folders_among_our_own_hinder_nothing(live: Settings) -> None:
    odd = b"\xe4 1-2.jsonl.gz"
    with running_service(live) as service:
        service.create_backup()
        generation = service.status()["store"]["generation"]
    storage, backups = live.storage_dir, live.backup_dir
    for name in (b"previous-\xe4", b"previous-0123456789abcdef\xe4", b".restoring-\xe4", b".past-\xe4"):
        shutil.copytree(live.database, path_of(storage, name))
    for name in (b"catalogue.json.damaged\xe4", b".\xe4.tmp", b"\xe4"):
        path_of(storage, name).write_bytes(b"x")
        path_of(backups, name).write_bytes(b"x")
    for folder in (
        live.database, storage / "operations", storage / data_folders.STARTING, backups / data_folders.JOURNAL,
        backups / data_folders.JOURNAL / generation, live.restore_dir,
    ):  # fmt: skip
        folder.mkdir(exist_ok=True)
        path_of(folder, odd).write_bytes(b"x")
        path_of(folder, b"1\xe4").mkdir()

    for _ in range(2):
        with running_service(live) as service:
            made = service.create_backup().backup
            assert service.restore(made.name).events == 2
            assert service.list_undo()
            assert service.undo().events == 2
            service.timeline()
            assert problems(service) == {}


@pytest.mark.slow
def test_a_tar_of_another_program_may_hold_any_names(live: Settings) -> None:
    database = make_foreign_database(live.storage_dir.parent / "node")
    with tarfile.open(live.restore_dir / "node.tar.gz", "w:gz", format=tarfile.GNU_FORMAT) as archive:
        archive.add(database, arcname="event_registry_db")
        for name in ODD_NAMES:
            archive.addfile(tarfile.TarInfo(os.fsdecode(b"notes/" + name)))

    with running_service(live) as service:
        assert (prefixes(service), problems(service)) == ({"foreign": 3}, {})


@pytest.mark.parametrize("name", ["STORAGE_DIR", "BACKUP_DIR", "RESTORE_DIR"])
@pytest.mark.parametrize("through_a_link", [False, True])
def test_a_folder_that_is_not_utf8_is_refused_before_anything_starts(
    tmp_path: Path, name: str, through_a_link: bool
) -> None:
    folder = path_of(tmp_path, b"b\xfe")
    if through_a_link:
        folder.mkdir()
        (tmp_path / "link").symlink_to(folder)
        folder = tmp_path / "link"

    with pytest.raises(InvalidSettings, match=name) as caught:
        settings.load({**folders_beneath(tmp_path), name: str(folder)})

    assert "UTF-8" in caught.value.message
    caught.value.message.encode()


@pytest.mark.parametrize(
    "given", [{"KAFKA_BOOTSTRAP_SERVERS": "h\udce4:9092"}, {"ALLOWED_HOSTS": "h\udce4"}, {"LOG_LEVEL": "\udce4"}]
)
def test_a_setting_that_is_not_utf8_is_refused(tmp_path: Path, given: Mapping[str, str]) -> None:
    with pytest.raises(InvalidSettings, match=f"{next(iter(given))} is not UTF-8: .*\\\\xe4"):
        settings.load({**folders_beneath(tmp_path), **given})
