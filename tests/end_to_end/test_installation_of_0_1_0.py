"""An installation that 0.1.0 made goes on under this program, and 0.1.0 with what this program made, except archives.

`tests/fixtures/installation-0.1.0` holds the installations; make.py there made them, with the code of OLD_COMMIT.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from eventvault.archive import reader
from eventvault.archive.reuse import reusable_members
from eventvault.archive.source import open_archive
from eventvault.settings import Settings
from tests import format_1, format_2
from tests.quarantine import ids_of, letter, take_letters
from tests.restoring import drafts
from tests.service import GUNICORN, PROJECT, Service, services
from tests.stores import folders_beneath, folders_of, running_service

FIXTURES = PROJECT / "tests" / "fixtures" / "installation-0.1.0"
OLD_COMMIT = "d3d18ad8d2010afb617d184db8105e3ae482e2fa"
EXPECTED = json.loads((FIXTURES / "expected.json").read_text())["used"]
FIRST = EXPECTED["pinned"]
IN_FOLDER = "import os, sys; os.chdir(sys.argv[1]); os.execv(sys.argv[2], sys.argv[2:])"


@pytest.fixture
def installation(tmp_path: Path) -> Callable[[str], Path]:
    """Unpack the installation of that name where the service of the test looks for its data folders."""
    return lambda name: unpacked(name, tmp_path)


def unpacked(name: str, folder: Path) -> Path:
    with tarfile.open(FIXTURES / f"{name}.tar.gz") as tar:
        tar.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def old_program(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that starts gunicorn with the program of OLD_COMMIT."""
    root = tmp_path_factory.mktemp("old")
    packed = subprocess.run(
        ["git", "archive", OLD_COMMIT, "app", "eventvault", "wsgi.py", "gunicorn.conf.py"],
        cwd=PROJECT,
        capture_output=True,
        check=False,
    )
    if packed.returncode:
        pytest.skip(f"this checkout has no commit {OLD_COMMIT[:7]}: {packed.stderr.decode().strip()}")
    subprocess.run(["tar", "x", "-C", root], input=packed.stdout, check=True)
    return [sys.executable, "-c", IN_FOLDER, str(root), *GUNICORN]


def ids(running: Service, query: str = "") -> list[str]:
    reply = running.get(f"/api/events?limit=1000{query}")
    assert reply.status == 200, reply.body
    return [event["id"] for event in reply.json()["events"]]


def answer(reply: Any, status: int = 200) -> Any:
    """The reply's JSON, once its status is the expected one."""
    assert reply.status == status, reply.body
    return reply.json()


def restored_events(running: Service, request: dict[str, Any]) -> list[str]:
    answer(running.post("/api/backup/restore", request))
    return ids(running)


@pytest.fixture(scope="module")
def going_on(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Service]]:
    """The used installation with this program, for tests that only read."""
    root = unpacked("used", tmp_path_factory.mktemp("going-on"))
    with services(folders_beneath(root), root) as service:
        yield root, service(workers=1)


def test_it_serves_its_events_its_archives_and_its_past(going_on) -> None:
    running = going_on[1]

    assert ids(running) == EXPECTED["events"]
    assert answer(running.get("/api/health"))["status"] == "ok"
    backups = {backup["name"]: backup for backup in answer(running.get("/api/backup/list"))["backups"]}
    assert {name: backup["events"] for name, backup in backups.items()} == {
        name: len(events) for name, events in EXPECTED["archives"].items()
    }
    assert [name for name, backup in backups.items() if backup["pinned"]] == [FIRST]
    assert all(
        answer(running.post(f"/api/backup/{name}/verify?records=true"))["backup"]["verified"] for name in backups
    )
    timeline = answer(running.get("/api/backup/timeline"))
    assert {it["id"] for it in timeline["generations"]} == {EXPECTED["generation"], EXPECTED["previousGeneration"]}


def test_it_gets_a_key_and_small_files_with_checksums_and_its_id_stays(service, installation) -> None:
    root = installation("used")
    identity = (root / "backups" / ".installation").read_text()
    running = service(workers=1)
    answer(running.post("/api/backup/create"))

    for folder in ("storage", "backups"):
        assert (root / folder / ".installation").read_text() == identity
        assert json.loads((root / folder / ".installation.json").read_text())["installation"] == identity
        assert (root / folder / ".installation.key").stat().st_mode & 0o777 == 0o600
    assert list(json.loads((root / "backups" / ".catalogue.json").read_text())) == ["checksum", "format", "archives"]
    assert answer(running.get("/api/health"))["status"] == "ok"
    backups = answer(running.get("/api/backup/list"))["backups"]
    assert [backup["name"] for backup in backups if backup["pinned"]] == [FIRST]


def test_its_archives_moments_and_previous_database_are_restored(service, installation) -> None:
    installation("used")
    running = service(workers=1)

    answer(running.post("/api/backup/undo"))
    assert ids(running) == EXPECTED["beforeRestore"]
    for name, events in EXPECTED["archives"].items():
        assert restored_events(running, {"backupName": name}) == events
    moment = {"sequence": 45, "generation": EXPECTED["previousGeneration"]}
    assert restored_events(running, moment) == EXPECTED["beforeRestore"][:45]
    answer(running.post("/api/backup/undo", {"name": EXPECTED["previous"]}), status=404)


def test_its_archives_are_downloaded_with_their_sha256_as_etag(going_on) -> None:
    root, running = going_on

    answer(running.post(f"/api/backup/{FIRST}/verify?records=true"))
    backup = next(it for it in answer(running.get("/api/backup/list"))["backups"] if it["name"] == FIRST)
    content = (root / "backups" / FIRST).read_bytes()
    assert (backup["sha256"], backup["digest"]) == (hashlib.sha256(content).hexdigest(), None)
    reply = running.get(f"/api/backup/{FIRST}/download")
    assert (reply.body, reply.headers["etag"]) == (content, f'"{backup["sha256"]}"')


@pytest.mark.parametrize("memory", [True, False])
def test_the_members_of_its_archives_are_taken_over(memory: bool, installation, tmp_path: Path) -> None:
    """Its newest archive is unpacked and archived again: every table is copied, whatever is known of its digest."""
    root = installation("used")
    old = root / "backups" / max(EXPECTED["archives"])
    unpacked = reader.unpack(old, tmp_path / "out")
    folder, about = tmp_path / "out" / "event_registry_db", unpacked.manifest
    digests = {file.name: blake3((folder / file.name).read_bytes()).hexdigest() for file in about.files if memory}

    with reusable_members([old], about.store_id, about.compression) as archives:
        written = format_2.write_archive(tmp_path / "new.tar.gz", folder, about, digests=digests, reusable=archives)

    with open_archive(old) as archive:
        stored = {file.name: file.length for file in reader.peek_files(archive)[1]}
    assert written.copied == sum(stored.values()) > 0
    again = reader.verify(tmp_path / "new.tar.gz")
    assert (again.digest, again.sha256, again.manifest.format_version) == (written.digest, None, 2)
    assert written.manifest.files == again.manifest.files
    format_2.write_archive(tmp_path / "fresh.tar.gz", folder, about)
    assert (tmp_path / "fresh.tar.gz").read_bytes() == (tmp_path / "new.tar.gz").read_bytes()


def test_the_tests_write_archives_of_format_1_as_it_did(installation, tmp_path: Path) -> None:
    for name in EXPECTED["archives"]:
        old = installation("used") / "backups" / name
        about = reader.unpack(old, tmp_path / name).manifest
        format_1.write_archive(tmp_path / "again.tar.gz", tmp_path / name / "event_registry_db", about)
        assert (tmp_path / "again.tar.gz").read_bytes() == old.read_bytes()


def test_its_staged_restore_is_applied_by_the_next_start(service, installation) -> None:
    installation("staged")
    assert ids(service(workers=1)) == EXPECTED["archives"][FIRST]


def test_a_restore_that_it_had_decided_is_finished(service, installation) -> None:
    root = installation("decided")
    running = service(workers=1)

    assert ids(running) == EXPECTED["archives"][FIRST]
    assert not (root / "storage" / "restore_intent.json").exists()
    answer(running.post("/api/backup/undo"))
    assert ids(running) == EXPECTED["events"]


def test_its_lost_storage_is_recovered_to_the_last_event(service, installation) -> None:
    shutil.rmtree(installation("used") / "storage")
    assert ids(service(workers=1, environment={"AUTO_RECOVER": "true"})) == EXPECTED["events"]


@pytest.fixture(scope="module")
def gone_on(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Let this program post, back up, restore and stage a restore, then end. Returns the data, and what is in it."""
    root = unpacked("used", tmp_path_factory.mktemp("gone-on"))
    with services(folders_beneath(root), root) as service:
        return root, used(service(workers=1))


def used(running: Service) -> dict[str, Any]:
    answer(running.post("/api/events", [{"type": "kind.new", "id": f"new-{n}"} for n in range(10)]), status=201)
    made = answer(running.post("/api/backup/create", {"label": "new"}))["name"]
    archived = ids(running)
    answer(running.post("/api/events", {"type": "kind.new", "id": "before the restore"}), status=201)
    before_restore = ids(running)
    answer(running.post("/api/backup/restore", {"backupName": FIRST}))
    answer(running.post("/api/events", {"type": "kind.new", "id": "after the restore"}), status=201)
    answer(running.post("/api/backup/restore", {"backupName": made, "apply": "restart"}))
    present = ids(running)
    running.stop()
    return {"made": made, "archived": archived, "beforeRestore": before_restore, "present": present}


@pytest.fixture
def handed_back(gone_on: tuple[Path, dict[str, Any]], settings_environment: dict[str, str]) -> dict[str, Any]:
    """The old program has a copy of the data."""
    root, there = gone_on
    for folder in folders_of(settings_environment):
        shutil.copytree(root / folder.name, folder, ignore=shutil.ignore_patterns("*.sock"))
    return there


def test_the_old_program_goes_on_but_reads_no_archive_of_format_2(
    service, handed_back, old_program, tmp_path: Path
) -> None:
    (tmp_path / "storage" / "restore_staged.json").unlink()
    running = service(workers=1, command=old_program)

    assert ids(running) == handed_back["present"]
    too_new = answer(running.post("/api/backup/restore", {"backupName": handed_back["made"]}), status=422)
    assert too_new["code"] == "archive_too_new"
    assert answer(running.post(f"/api/backup/{handed_back['made']}/verify"), status=422)["code"] == "archive_too_new"
    assert ids(running) == handed_back["present"]
    answer(running.post("/api/backup/undo"))
    assert ids(running) == handed_back["beforeRestore"]
    made = answer(running.post("/api/backup/create"))
    assert made["events"] == len(handed_back["beforeRestore"])
    assert restored_events(running, {"backupName": FIRST}) == EXPECTED["archives"][FIRST]
    assert restored_events(running, {"backupName": made["name"]}) == handed_back["beforeRestore"]


def test_the_old_program_applies_a_restore_that_this_one_staged(service, handed_back, old_program) -> None:
    assert ids(service(workers=1, command=old_program)) == handed_back["archived"]


def test_the_old_program_recovers_what_this_one_journaled(service, handed_back, old_program, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "storage")
    running = service(workers=1, command=old_program, environment={"AUTO_RECOVER": "true"})
    assert ids(running) == handed_back["present"]


def test_the_old_program_skips_in_restore_what_this_one_skipped(service, installation, old_program) -> None:
    root = installation("used")
    for name in EXPECTED["archives"]:
        shutil.copy(root / "backups" / name, root / "restore")
    running = service(workers=1)
    answer(running.post("/api/events", {"type": "kind.new", "id": "after the restore"}), status=201)
    present = ids(running)
    running.stop()

    running = service(workers=1, command=old_program)
    assert ids(running) == present
    assert {it["code"] for it in answer(running.get("/api/health"))["problems"]} == {"restore_left"}


def test_data_that_the_old_program_encoded_anew_does_not_differ_from_what_was_sent(service, old_program) -> None:
    texts = {"digits": b"1.50", "beyond a double": b"0.1234567890123456789", "escape": b'"\\u00e9"', "e": b"1e2"}

    def post(running: Service, prefix: str, data: dict[str, bytes]) -> dict[str, bool]:
        """Return the name and whether it differs, of each event."""
        lines = [b'{"type":"t","id":"%s %s","data":%s}' % (prefix.encode(), n.encode(), t) for n, t in data.items()]
        reply = running.post("/api/events", b"\n".join(lines), headers={"Content-Type": "application/x-ndjson"})
        assert reply.status in (200, 201), reply.body
        return {result["id"]: result.get("differs", False) for result in reply.json()["results"]}

    running = service(workers=1, command=old_program)
    post(running, "old", texts)
    running.stop()
    for _ in range(2):
        running = service(workers=1)
        assert not any(post(running, "old", texts).values())
        assert all(post(running, "old", dict.fromkeys(texts, b"1")).values())
        post(running, "new", texts)
        encoded = {"digits": b"1.5", "beyond a double": b"0.12345678901234568", "escape": '"é"'.encode(), "e": b"100.0"}
        assert all(post(running, "new", encoded).values())
        assert not any(post(running, "new", texts).values())
        running.stop()


def test_the_old_program_ignores_a_quarantine_and_leaves_it_where_it_is(
    service, old_program, settings: Settings
) -> None:
    with running_service(settings) as here:
        take_letters(here, letter(1), letter(2), drafts=drafts(3, "from-kafka"))
        assert here.journal.flush()
        events = [f"from-kafka-{number}" for number in range(3)]

    running = service(workers=1, command=old_program)
    assert ids(running) == events
    made = answer(running.post("/api/backup/create"))["name"]
    answer(running.post("/api/events", {"type": "t", "id": "later"}), status=201)
    assert restored_events(running, {"sequence": 2}) == events[:2]
    assert restored_events(running, {"backupName": made}) == events
    running.stop()

    with running_service(settings) as here:
        assert ids_of(here) == ["events/0@2", "events/0@1"]
        take_letters(here, letter(3))
        here.restore(made)
        assert ids_of(here) == ["events/0@2", "events/0@1"]
